"""How figures were measured, and in what two of them differ: runs, or a run and a paper."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from earsight.config import RunConfig
from earsight.evaluation.compare_classifier import classifier_difference
from earsight.evaluation.published import CLASSES, TRAINING, Figure
from earsight.evaluation.results import Evaluation
from earsight.evaluation.rows import Row
from earsight.training.origin import read_origin
from earsight.training.run_folder import read_config

UNSAID = "–"
"""What stands for a thing that is not recorded, or that a paper does not say."""

BEST = "best"
"""The block's name of the best of all numbered blocks."""

_ENOUGH = 0.95
"""Share of a data set's training instances that counts as all: some files are always missing."""


@checked(config=ConfigDict(extra="ignore"), kw_only=True, frozen=True)
class Protocol:
    """What an evaluation records of its protocol, in ``details["protocol"]``.

    Attributes:
        task: what was measured.
        data: layout of a public data set, such as ``esc-50``; empty for any other corpus.
        folds: official splits that were averaged; empty for the one in the manifest.
        clips: averaged at test.
        frames: of a clip.
        size: side of its picture.
        seeds: of the classifiers or fine-tunings that were averaged.
        instances: labelled training instances (of one split).
        classes: how many, of every label or by label.
        preset: the protocol whose settings were taken; empty for none.
        changed: settings of clips that are not the preset's.
        classifier: what classified and how it was fitted, in words.
    """

    task: str = ""
    data: str = ""
    folds: list[int] | None = None
    clips: int | None = None
    frames: int | None = None
    size: int | None = None
    seeds: list[int] | None = None
    instances: int | None = None
    classes: int | dict[str, int] | None = None
    preset: str | None = None
    changed: list[str] | None = None
    classifier: str | None = None

    @property
    def preset_text(self) -> str | None:
        """The preset with what was changed of its clips; None where it is not recorded."""
        return ", ".join([self.preset, *(self.changed or ())]) if self.preset else self.preset

    def classes_of(self, label: str | None) -> int | None:
        """Classes of a label column; None where they are not recorded."""
        if isinstance(self.classes, dict):
            return self.classes.get(label or "")
        return self.classes


@dataclass(frozen=True, kw_only=True)
class Measured:
    """An evaluation of a run, with what a reader must know to compare its figures.

    Attributes:
        run: the run's name.
        name: of the evaluation.
        described: its protocol in words.
        corpus: that was evaluated on.
        pretraining: what the evaluated weights were pre-trained on: the name of a manifest or of
            imported weights, ``none`` for a random initialisation.
        variant: of several fine-tunings of a run: its share of the labels, and its start.
        encoders: modality to encoder.
        spectrogram: its frames and bands, such as ``100x129``.
        protocol: None for evaluations of before it was recorded.
    """

    run: str
    name: str
    described: str
    corpus: str
    pretraining: str
    variant: str
    encoders: Mapping[str, str]
    spectrogram: str
    protocol: Protocol | None

    @property
    def repeats(self) -> int:
        """Over how many folds and seeds it was averaged."""
        known = self.protocol
        return (
            0 if known is None else max(1, len(known.folds or ())) * max(1, len(known.seeds or ()))
        )

    def input(self, modality: str) -> str:
        """Frames and side of the picture (``8x224``), or frames and bands of the sound."""
        if modality == "audio":
            return self.spectrogram
        known = self.protocol and self.protocol.frames and self.protocol.size
        return f"{self.protocol.frames}x{self.protocol.size}" if self.protocol and known else ""


def measured(run: str, folder: Path, path: Path, evaluation: Evaluation) -> Measured:
    """What is known of an evaluation that was read from a run folder.

    Raises:
        ValueError: its protocol is damaged; the message names the file.
    """
    # A fine-tuned run lies in the run, with settings of its own.
    own = folder / evaluation.weights
    tuned = evaluation.name.startswith("finetune") and (own / "config.yaml").is_file()
    config = read_config(own if tuned else folder)
    details = evaluation.details
    scratch = details.get("from") == "scratch"
    return Measured(
        run=run,
        name=evaluation.name,
        described=evaluation.protocol,
        corpus=evaluation.corpus,
        pretraining="none" if scratch else _pretraining(folder),
        variant=_variant(details.get("share"), scratch),
        encoders={
            modality: str(getattr(getattr(config, f"{modality}_encoder"), "name", UNSAID))
            for modality in ("video", "audio")
        },
        spectrogram=_spectrogram(config),
        protocol=read_protocol(path, details.get("protocol")),
    )


def read_protocol(path: Path, tree: Any) -> Protocol | None:
    """The protocol in an evaluation's details; None where there is none.

    Raises:
        ValueError: an entry is of the wrong type; the message names the file.
    """
    if tree is None:
        return None
    try:
        made: Protocol = TypeAdapter(Protocol).validate_python(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("details", "protocol", *first["loc"])))
        raise ValueError(f"{path}: {where}: {first['msg']}; evaluate again") from error
    return made


def _pretraining(folder: Path) -> str:
    origin = read_origin(folder)
    if origin is not None and not origin.trained:
        return origin.weights
    corpus = Path(read_config(folder).data.corpus).stem or UNSAID
    return corpus if origin is None else f"{origin.weights}, then {corpus}"


def _variant(share: Any, scratch: bool) -> str:
    few = isinstance(share, int | float) and share < 1
    parts = [f"{100 * share:g} % of labels"] if few else []
    return ", ".join([*parts, *(["from scratch"] if scratch else [])])


def _spectrogram(config: RunConfig) -> str:
    return f"{config.audio.frames}x{config.audio.bands}"


def between_runs(
    first: Measured, first_row: Row, other: Measured, row: Row
) -> tuple[tuple[str, str], ...]:
    """In what the measuring of another run's figure differs: pairs of a fact, one for each run."""
    pairs = [
        ("corpus", first.corpus, other.corpus),
        ("samples tested", f"{first_row.n:,}", f"{row.n:,}"),
        ("chance", _share(first_row.chance), _share(row.chance)),
        *_recorded_pairs(first, other, row),
    ]
    return tuple((f"{what} {one}", f"{what} {two}") for what, one, two in pairs if one != two)


def _recorded_pairs(first: Measured, other: Measured, row: Row) -> list[tuple[str, str, str]]:
    one, two = first.protocol, other.protocol
    if one is None or two is None:
        # Fine-tunings are described with the run's name.
        tuned = row.task == "finetune"
        return [
            ("protocol", _known(one), _known(two)),
            ("described as", *(("", "") if tuned else (first.described, other.described))),
        ]
    modality, label = row.modality, row.label
    return [
        ("splits", splits_text(one.folds), splits_text(two.folds)),
        ("clips averaged", _text(one.clips), _text(two.clips)),
        ("input", first.input(modality) or UNSAID, other.input(modality) or UNSAID),
        ("number of seeds", _count(one.seeds), _count(two.seeds)),
        ("training instances", _text(one.instances), _text(two.instances)),
        ("classes", _text(one.classes_of(label)), _text(two.classes_of(label))),
        ("classifier:", _said(one.classifier), _said(two.classifier)),
        ("protocol:", _said(one.preset_text), _said(two.preset_text)),
    ]


def _known(protocol: Protocol | None) -> str:
    return "not recorded" if protocol is None else "recorded"


def _share(value: float | None) -> str:
    return UNSAID if value is None else f"{value:.3g}"


def _count(values: list[int] | None) -> str:
    return UNSAID if values is None else str(len(values))


def _text(value: int | None) -> str:
    return UNSAID if value is None else f"{value:,}"


def _said(text: str | None) -> str:
    return "not recorded" if text is None else text or "none"


def splits_text(folds: Sequence[int] | None) -> str:
    """Splits that were averaged, or that it was the manifest's own."""
    return " ".join(map(str, folds)) if folds else "the manifest's"


def from_published(figure: Figure, one: Measured, row: Row) -> dict[str, str]:
    """In what a published figure differs from a run's, by aspect; both sides are named.

    The run's evaluation must have its protocol recorded.
    """
    assert one.protocol is not None
    return dict(_differences(figure, one, one.protocol, row))


def _differences(
    figure: Figure, one: Measured, protocol: Protocol, row: Row
) -> Iterator[tuple[str, str]]:
    size = f" ({figure.size})" if figure.size else ""
    # A set's name does not say which of its clips there were.
    if {figure.pretraining, one.pretraining} != {"none"}:
        yield "pre-trained on", f"pre-trained on {figure.pretraining}{size}, here {one.pretraining}"
    if figure.protocol == "unstated":
        yield "protocol", f"protocol not said, here {row.task}"
    if figure.metric != "Clip@1" and figure.clips != protocol.clips and figure.protocol != "memory":
        yield "clips", f"{figure.clips or 'unsaid'} clips averaged, here {_text(protocol.clips)}"
    here = one.input(figure.modality)
    if figure.input != here:
        yield "input", f"input {figure.input or 'not said'}, here {here or UNSAID}"
    yield from _split_differences(figure, protocol)
    yield from classifier_difference(
        figure, protocol.classifier, protocol.preset, protocol.changed or ()
    )
    if figure.protocol == "svm" and row.block == "pooled":
        yield "features", "features of the last layer before pooling, here pooled"
    if figure.protocol == "probe" and not figure.block and row.block == BEST:
        yield "features", "block not said, here the best of all"
    yield from _data_differences(figure, protocol, row)


def _split_differences(figure: Figure, protocol: Protocol) -> Iterator[tuple[str, str]]:
    if figure.splits != tuple(protocol.folds or ()):
        said = f"splits {splits_text(figure.splits)}" if figure.splits else "splits not said"
        yield "splits", f"{said}, here {splits_text(protocol.folds)}"
    if protocol.seeds and len(protocol.seeds) > 1:
        yield "seeds", f"no seeds said, here the mean of {len(protocol.seeds)}"


def _data_differences(figure: Figure, protocol: Protocol, row: Row) -> Iterator[tuple[str, str]]:
    classes, found = CLASSES[figure.data], protocol.classes_of(row.label)
    if found != classes:
        yield "classes", f"{classes} classes, here {_text(found)}"
    every = TRAINING[figure.data]
    instances = protocol.instances
    if figure.protocol != "memory" and (instances is None or instances < _ENOUGH * every):
        yield "training instances", f"{every:,} training instances, here {_text(instances)}"
