"""What was found of one thing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["broken", "lacking", "ok"]

ORDER: tuple[Status, ...] = ("broken", "lacking", "ok")
"""What is bad comes first: ``broken`` means that earsight does not work, ``lacking`` that some of
it does not, or is slower."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was found of one thing.

    Attributes:
        group: ``versions``, ``codecs``, ``devices``, ``extras``, ``disk`` or ``speed``.
        name: of the thing.
        status: whether it works.
        text: what was found and, where it does not work, what that costs.
        remedy: what to do about it; empty where nothing needs to be done.
        figures: numbers behind the text, for machines.
    """

    group: str
    name: str
    status: Status = "ok"
    text: str
    remedy: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Examination:
    """All that was found, what is bad first."""

    checks: tuple[Check, ...]

    @property
    def works(self) -> bool:
        """Whether nothing essential is broken."""
        return all(check.status != "broken" for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"works": self.works, "checks": [asdict(check) for check in self.checks]}

    def __str__(self) -> str:
        counts = {status: sum(c.status == status for c in self.checks) for status in ORDER}
        width = max(len(check.name) for check in self.checks)
        lines = [f"{check.status:7}  {check.name:{width}}  {_said(check)}" for check in self.checks]
        summed = ", ".join(f"{count} {status}" for status, count in counts.items())
        return "\n".join([*lines, "", summed])


def _said(check: Check) -> str:
    return f"{check.text}; {check.remedy}" if check.remedy else check.text


def examination(found: Sequence[Check]) -> Examination:
    """Checks in order: by how bad they are, else as they were made."""
    return Examination(
        checks=tuple(sorted(found, key=lambda check: ORDER.index(check.status))),
    )
