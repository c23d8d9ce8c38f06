"""Exporting a run: what is written, and in which order."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from earsight.config import write_yaml
from earsight.evaluation.load import require_media
from earsight.exporting.card import write_card
from earsight.exporting.formats import Format
from earsight.exporting.graphs import check_onnx, write_onnx, write_torch
from earsight.exporting.metadata import metadata
from earsight.exporting.networks import Network, networks
from earsight.exporting.staging import check_target, is_file, staged
from earsight.exporting.subject import WEIGHTS, Subject, open_subject, public_config
from earsight.exporting.weights import write_weights
from earsight.training.origin import write_origin

_WRITERS: Mapping[str, tuple[str, Callable[[Network, Path, Mapping[str, str]], float]]] = {
    "onnx": ("onnx", write_onnx),
    "torch": ("pt2", write_torch),
}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export left.

    Attributes:
        output: the file or folder.
        files: names of its files.
        differences: of each graph, the largest difference from torch as a share of its outputs.
        notices: what must be said with everything that is made of the weights.
    """

    output: Path
    files: tuple[str, ...]
    differences: Mapping[str, float] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        tree = {**asdict(self), "output": str(self.output)}
        return tree if self.notices else {k: x for k, x in tree.items() if k != "notices"}


def describe(done: Exported) -> str:
    """What an export left, for people."""
    lines = [f"{done.output}: {', '.join(done.files)}"]
    lines += [
        f"{name}: at most {worst:.0e} of its largest output from torch"
        for name, worst in done.differences.items()
    ]
    return "\n".join([*lines, *(f"\nnotice: {notice}" for notice in done.notices)])


def export_run(
    run: Path,
    output: Path,
    *,
    format: str = "safetensors",
    licence: str = "",
    raw: bool = False,
    overwrite: bool = False,
    repo: str = "",
) -> Exported:
    """Write a finished run as files that stand alone.

    ``safetensors``: all weights with their input settings, to be loaded by
    :func:`earsight.api.load_run`. ``onnx`` and ``torch``: a graph for each encoder, and for each
    key encoder that the method's spaces name, for any batch, with outputs ``features`` and
    ``embedding`` (L2-normalised; ``logits`` of a supervised run).

    Args:
        run: the run folder.
        output: a folder; or with ``safetensors``, a file of that ending, without a card.
        format: ``safetensors``, ``onnx`` or ``torch``.
        licence: of the weights, such as ``apache-2.0``; empty for unknown.
        raw: have graphs take pixels and samples instead of prepared inputs.
        overwrite: replace a former export there.
        repo: ``OWNER/NAME`` on the hub, for the card to name.

    Raises:
        ValueError: no finished run, an unknown format or licence, or ``output`` is taken.
        RunError: a graph answers otherwise than torch; nothing is then written.
    """
    _check(output, format, raw)
    check_target(output, overwrite=overwrite)
    subject = open_subject(run, licence)
    if format != "safetensors":
        require_media(subject.loaded, run)
    differences = {}
    with staged(output, overwrite=overwrite) as folder:
        if format == "safetensors":
            _write_weights(subject, folder)
        else:
            differences = _write_graphs(subject, folder, format, raw)
        if not is_file(output):
            write_card(subject, folder, differences, raw=raw, repo=repo)
            _write_terms(subject, folder)
        files = (WEIGHTS,) if is_file(output) else tuple(sorted(p.name for p in folder.iterdir()))
    return Exported(
        output=output,
        files=(output.name,) if is_file(output) else files,
        differences=differences,
        notices=subject.terms.notices,
    )


def _check(output: Path, format: str, raw: bool) -> None:
    if format not in get_args(Format):
        raise ValueError(f"format: {format!r} is unknown; one of {', '.join(get_args(Format))}")
    if raw and format == "safetensors":
        raise ValueError("raw: has no effect on safetensors, which hold no graph; leave it out")
    if format != "safetensors" and output.suffix in (".onnx", ".pt2", ".safetensors"):
        raise ValueError(f"{output}: {format} leaves a file per encoder; name a folder")
    if format == "onnx":
        check_onnx()


def _write_weights(subject: Subject, folder: Path) -> None:
    write_weights(subject, folder / WEIGHTS)
    write_yaml(folder / "config.yaml", public_config(subject.config))


def _write_graphs(subject: Subject, folder: Path, format: str, raw: bool) -> dict[str, float]:
    """One file per graph; their largest differences from torch by name."""
    ending, write = _WRITERS[format]
    found = {}
    for network in networks(subject, raw=raw):
        path = folder / f"{network.name}.{ending}"
        found[path.name] = write(network, path, metadata(subject, network))
    return found


def _write_terms(subject: Subject, folder: Path) -> None:
    """What imported weights oblige to say."""
    terms = subject.terms
    if terms.origin is not None:
        write_origin(folder, terms.origin)
    if terms.notices:
        (folder / "NOTICE").write_text("\n".join(terms.notices) + "\n", encoding="utf-8")
