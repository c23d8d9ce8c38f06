"""Scan media, prepare a corpus for training, render one."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from earsight.config import parse
from earsight.corpus.av_digits import AvDigits, render_av_digits
from earsight.corpus.layouts import LayoutOptions, read_layout
from earsight.corpus.omniglot import Omniglot, make_omniglot
from earsight.corpus.part import Part, parse_part
from earsight.corpus.scan import ScanReport
from earsight.corpus.scan import scan as scan_media
from earsight.corpus.shards.over_ray import prepare_over_ray
from earsight.corpus.shards.prepare import prepare as prepare_shards
from earsight.corpus.shards.report import PrepareReport
from earsight.media.types import Coding
from earsight.presets import load as load_preset

Engine = Literal["here", "ray"]
"""Where work is done: by processes of this machine, or by the nodes of a Ray cluster."""


def scan(
    sources: Sequence[str],
    output: Path,
    *,
    segment: str | float | None = None,
    layout: str | None = None,
    root: Path | None = None,
    layout_options: LayoutOptions | None = None,
    shard: str | Part | None = None,
    **options: Any,
) -> ScanReport:
    """Scan media into a manifest; see :func:`earsight.corpus.scan.scan`.

    Args:
        sources: folders or files, each perhaps ``name=PATH``; none with a layout.
        output: the manifest.
        segment: seconds, or text such as ``10s``.
        layout: a known data set, which brings labels and official splits.
        root: folder of its lists and media.
        layout_options: what some layouts can be told.
        shard: ``i/n``: read only the files of one of n parts, from 0 on, to be joined by
            :func:`earsight.api.merge`.
        options: the other arguments of that function.

    Raises:
        ValueError: a source or an option cannot be used, or nothing was found.
    """
    options |= {"segment": seconds_of(segment), "shard": parse_part(shard)}
    if layout is None or root is None or sources:
        _check_sources(sources, layout, root, layout_options)
        return scan_media(sources, output, **options)
    listing = read_layout(layout, root, layout_options)
    return scan_media([str(root)], output, listing=listing, **options)


def _check_sources(
    sources: Sequence[str], layout: str | None, root: Path | None, given: LayoutOptions | None
) -> None:
    """Either sources alone, or a layout and its root."""
    if layout is None and root is None and sources:
        if given not in {None, LayoutOptions()}:
            raise ValueError("classes, draw, seed and ancestors have no effect without a layout")
        return
    if layout is None and root is None:
        raise ValueError("nothing to scan; give folders, or a layout and its root")
    if sources:
        raise ValueError(
            f"give either sources ({sources[0]}, …) or a layout and its root, not both"
        )
    missing, other = ("root", "layout") if root is None else ("layout", "root")
    raise ValueError(f"{missing}: is missing; a {other} has an effect only together with one")


def prepare(
    corpus: str | Path,
    output: Path,
    *,
    preset: str | None = None,
    fps: float | None = None,
    rate: int | None = None,
    short_side: int = Coding.short_side,
    shard: str | Part | None = None,
    engine: Engine = "here",
    **options: Any,
) -> PrepareReport:
    """Make a corpus anew as shards; see :func:`earsight.corpus.shards.prepare.prepare`.

    Args:
        corpus: a manifest.
        output: the folder of the shards.
        preset: whose ``audio.rate`` the shards get, and whose ``video.fps`` where it is above 16,
            unless they are given. (Clips begin anywhere: fewer frames would show what was to be
            seen long before.)
        fps: frames per second at most; 16 without a preset.
        rate: samples per second of the sound; 24000 without a preset.
        short_side: pixels of the pictures' short side at most.
        shard: ``i/n``: make only one of n parts, from 0 on, to be joined by
            :func:`earsight.api.merge`.
        engine: ``here``, or ``ray``: all parts by the nodes of a Ray cluster, where ``workers``
            (1 if not given) is the cores of each; the folder must be on a disk that all share.
        options: the other arguments of that function.

    Raises:
        ValueError: the corpus or a setting cannot be used, or the folder holds something else.
        RunError: the disk is full, or nodes left nothing where this machine can see it.
    """
    wanted = None if preset is None else parse(load_preset(preset))
    known_fps = Coding.fps if wanted is None else max(Coding.fps, wanted.video.fps)
    known_rate = Coding.rate if wanted is None else wanted.audio.rate
    coding = Coding(
        fps=known_fps if fps is None else fps,
        rate=known_rate if rate is None else rate,
        short_side=short_side,
    )
    part = parse_part(shard)
    if engine == "here":
        return prepare_shards(corpus, output, coding=coding, shard=part, **options)
    if part is not None:
        raise ValueError("shard: has no effect with an engine, which does all parts; leave it out")
    return prepare_over_ray(corpus, output, coding=coding, **options)


def av_digits(recordings: Path, output: Path, **options: Any) -> AvDigits:
    """Render the corpus av-digits; see :func:`earsight.corpus.av_digits.render_av_digits`.

    Args:
        recordings: folder of the Free Spoken Digit Dataset.
        output: the folder to make.
        options: the other arguments of that function.

    Raises:
        ValueError: the folder holds something already, or there are no or too few recordings.
    """
    return render_av_digits(recordings, output, **options)


def omniglot(images: Path, output: Path, **options: Any) -> Omniglot:
    """Make pairs of pictures; see :func:`earsight.corpus.omniglot.make_omniglot`.

    Args:
        images: archive of Omniglot's pictures.
        output: the folder to make.
        options: the other arguments of that function.

    Raises:
        ValueError: the folder holds something already, or the archive cannot be used.
    """
    return make_omniglot(images, output, **options)


def corpus(
    name: str, output: Path, *, progress: Callable[[int, int], None] | None = None, **options: Any
) -> AvDigits | Omniglot:
    """Make the corpus ``av-digits`` (of ``recordings``) or ``omniglot`` (of ``images``).

    Args:
        name: which.
        output: the folder to make.
        progress: told of clips rendered, and of how many.
        options: arguments of :func:`av_digits` and :func:`omniglot`; None for those not given.

    Raises:
        ValueError: an argument is missing or has no effect on this corpus, or cannot be used.
    """
    given = {one: value for one, value in options.items() if value is not None}
    of, idle = _OF_CORPUS[name]
    without = sorted(idle & set(given))
    if without:
        raise ValueError(f"{', '.join(without)}: has no effect on {name}; leave it out")
    if of not in given:
        raise ValueError(f"{of}: is missing, of which {name} is made")
    source = given.pop(of)
    if name == "av-digits":
        return av_digits(source, output, progress=progress, **given)
    if "clips" in given:
        given["pairs"] = given.pop("clips")
    return omniglot(source, output, **given)


_OF_CORPUS = {
    "av-digits": ("recordings", {"images", "writers"}),
    "omniglot": ("images", {"recordings", "workers"}),
}
"""By corpus, what it is made of, and the arguments that have no effect on it."""


def seconds_of(text: str | float | None) -> float | None:
    """Seconds of ``10s``, ``500ms``, ``2m`` or a plain number.

    Raises:
        ValueError: it is none of these.
    """
    if text is None or isinstance(text, float | int):
        return text
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|)\s*", text)
    if found is None:
        raise ValueError(f"{text!r} is no duration; write 10s, 500ms or 2m")
    return float(found[1]) * {"ms": 0.001, "m": 60.0}.get(found[2], 1.0)
