"""On what terms a run's weights may be used, and what must be said with them."""

import re
from dataclasses import dataclass
from pathlib import Path

from earsight.training.importing import LICENCE as PUBLISHED
from earsight.training.origin import Origin, inherited, read_origin
from earsight.training.run_folder import read_config

UNKNOWN = "unknown"
"""The licence of weights that nobody has given one."""

_HUB_NAMES = {PUBLISHED: "cc-by-nc-4.0"}
_LONGEST_CHAIN = 20


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The terms of a run's weights.

    Attributes:
        licence: as the hub abbreviates it: ``apache-2.0``, ``other`` or ``unknown``.
        name: in words; the same where there are no other.
        notices: what must be said with everything that is made of the weights.
        origin: where imported weights come from; of a run that started from some, theirs.
    """

    licence: str
    name: str
    notices: tuple[str, ...] = ()
    origin: Origin | None = None


def read_terms(run: Path, licence: str = "") -> Terms:
    """The terms of a run; those of imported weights stand, also for what was trained from them.

    Args:
        run: the run folder.
        licence: given by whoever exports; empty for unknown.

    Raises:
        ValueError: it is no abbreviation, or the weights have a licence of their own.
    """
    origin, notices = _origin(run)
    if origin is not None:
        if licence:
            raise ValueError(
                f"licence: the weights of {run} are {origin.weights}, under their own terms "
                f"({origin.licence}), which no other licence replaces; leave --licence out"
            )
        name = origin.licence
        return Terms(
            licence=_HUB_NAMES.get(name, "other"), name=name, notices=notices, origin=origin
        )
    if licence and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", licence):
        raise ValueError(
            f"licence: {licence!r} is no abbreviation; write it as the hub does, such as apache-2.0"
        )
    return Terms(licence=licence or UNKNOWN, name=licence or UNKNOWN, notices=notices)


def _origin(run: Path) -> tuple[Origin | None, tuple[str, ...]]:
    """The imported weights that a run is, or was trained from.

    Runs say so themselves; of those that do not, the ones that they started from are asked.
    """
    for step in range(_LONGEST_CHAIN):
        origin = inherited(run) if step else read_origin(run)
        if origin is not None:
            return origin, origin.notices
        start = read_config(run).start
        if not start:
            return None, ()
        if not (run / start / "config.yaml").is_file():
            name = Path(start).name
            return None, (f"started from the run {name}, whose terms are not known here",)
        run = run / start
    return None, ("started from a chain of runs too long to be followed",)
