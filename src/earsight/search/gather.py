"""What an index is made of: the instances of a source, and why some are left out."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from earsight.corpus.discover import Skipped
from earsight.corpus.manifest import Corpus, read
from earsight.corpus.scan import scan
from earsight.corpus.scan_report import shown
from earsight.corpus.shards.check import holds_shards
from earsight.search.index import ABOUT, CORPUS

UNREADABLE = "unreadable"
NOT_PREPARED = "not prepared"
NOTHING = "nothing to embed"
COPIES = "copies of others"

_NAMED = 10
_LACKS = {"video": "picture", "audio": "sound"}


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """A source's instances.

    Attributes:
        corpus: all of them.
        skipped: files and folders that a scan could not look at.
        is_kept: whether the index is to keep this manifest; not where its own has labels besides.
    """

    corpus: Corpus
    skipped: Sequence[Skipped] = ()
    is_kept: bool = True


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Instances that are not embedded.

    Attributes:
        kinds: how many are ``unreadable``, ``not prepared``, hold ``nothing to embed``, or are
            ``copies of others``.
        first: path and reason of the first few, in that order; copies are not named.
    """

    kinds: Mapping[str, int]
    first: Sequence[Skipped]

    def __len__(self) -> int:
        return sum(self.kinds.values())


def is_manifest(source: str | Path) -> bool:
    """Whether a source is a manifest, or holds one, and has not to be scanned."""
    return str(source).endswith(".parquet") or holds_shards(source)


def gather(source: str | Path, folder: Path) -> Gathered:
    """The manifest that ``source`` is or holds, or that of a scan of it.

    Args:
        source: a manifest, or a folder or file of media.
        folder: of the index; where it is begun, files that its manifest knows are not read again.

    Raises:
        ValueError: the source cannot be used.
    """
    if is_manifest(source):
        return Gathered(corpus=read(source))
    former = _former(folder)
    is_plain = former is not None and _is_plain(former)
    # Apart: an index of something else, which is refused later, keeps its own manifest.
    with tempfile.TemporaryDirectory() as place:
        manifest = Path(place) / CORPUS
        if is_plain:
            shutil.copy(folder / CORPUS, manifest)
        report = scan([str(source)], manifest, min_duration=0.0)
        return Gathered(
            corpus=read(manifest), skipped=report.skipped, is_kept=former is None or is_plain
        )


def _former(folder: Path) -> Corpus | None:
    """The manifest of an index that is begun; None where there is none that can be read."""
    if not (folder / ABOUT).is_file():
        return None
    try:
        return read(folder / CORPUS)
    except ValueError:
        # It saves reading alone: the index says by a hash which instances it is of.
        return None


def _is_plain(corpus: Corpus) -> bool:
    """Whether a scan without options could have made a manifest, and may go on from it."""
    return not (corpus.prepared or corpus.cells or corpus.label_names or corpus.has_splits)


def left_out(corpus: Corpus, modalities: Collection[str]) -> tuple[NDArray[np.bool_], LeftOut]:
    """Which instances a run of these modalities embeds, ``(R,)`` bool, and what of the others."""
    content = corpus.content()
    there = np.zeros(len(corpus), bool)
    if "video" in modalities:
        there |= content.has_video
    if "audio" in modalities:
        there |= content.has_audio
    kind = np.full(len(corpus), "", object)
    faults = {
        UNREADABLE: ~content.readable,
        NOT_PREPARED: _without_place(corpus),
        NOTHING: ~there,
        COPIES: corpus.is_duplicate(),
    }
    for name, applies in faults.items():
        kind[applies & (kind == "")] = name
    counts = Counter(kind.tolist())
    kinds = {name: counts[name] for name in faults if counts[name]}
    return kind == "", LeftOut(kinds=kinds, first=_first(corpus, kind, modalities))


def _without_place(corpus: Corpus) -> NDArray[np.bool_]:
    """``(R,)`` whether an instance of prepared shards lies in none of them."""
    if corpus.prepared is None:
        return np.zeros(len(corpus), bool)
    return np.asarray(pc.is_null(corpus.table.column("offset")).to_numpy(), np.bool_)


def _first(corpus: Corpus, kind: NDArray[Any], modalities: Collection[str]) -> list[Skipped]:
    """Path and reason of the first few instances that were left out and are no copies."""
    lacks = " and ".join(f"no {word}" for name, word in _LACKS.items() if name in modalities)
    each = [np.flatnonzero(kind == name) for name in (UNREADABLE, NOT_PREPARED, NOTHING)]
    named = np.concatenate(each)[:_NAMED]
    some = corpus.table.select(["path", "reason"]).take(pa.array(named)).to_pylist()
    return [
        Skipped(one["path"], _why(kind[at], one["reason"] or "", lacks))
        for at, one in zip(named, some, strict=True)
    ]


def _why(kind: str, reason: str, lacks: str) -> str:
    if kind == NOTHING:
        return f"has {lacks}"
    if kind == NOT_PREPARED and not reason.startswith("could not be prepared"):
        return "was left out by `earsight prepare`" + (f": it {reason}" if reason else "")
    return reason


def nothing_to_embed(source: str | Path, corpus: Corpus, out: LeftOut) -> str:
    """What is said where all instances are left out."""
    text = f"{source}: holds nothing that this run can embed"
    if not out.first:
        return text
    (path, reason), *_ = out.first
    if len(corpus) == 1:
        return f"{text}: it {shown(reason)}"
    return f"{text}: {len(out)} instances left out, such as {shown(path)}: it {shown(reason)}"
