"""The classifier that a supervised run has learned, by clips and by samples (methods.md §8)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from earsight.corpus.batch import Batch, Failure
from earsight.encoders.pair import MODALITIES, Pair
from earsight.evaluation.categories import counts_of
from earsight.evaluation.classification import score_classes
from earsight.evaluation.features import NOTHING_READ
from earsight.evaluation.rows import Metric
from earsight.transforms.inputs import Inputs


@dataclass(frozen=True, kw_only=True)
class ClassifyScores:
    """Accuracy of a learned classifier.

    Attributes:
        n: samples.
        sample: Sample@1, share of samples whose mean class probabilities over clips are largest for
            their class.
        clip: Clip@1, share of single clips answered correctly.
        per_class: Sample@1 of each class that was tested.
        counts: samples of each class.
        chance: share of the most frequent class.
        failures: instances that could not be read and are left out.
    """

    n: int
    sample: float
    clip: float
    per_class: Mapping[int, float]
    counts: Mapping[int, int]
    chance: float
    failures: tuple[Failure, ...]

    def metrics(self) -> dict[str, Metric]:
        """``Sample@1`` and ``Clip@1``."""
        return {
            "Sample@1": Metric(value=self.sample, chance=self.chance),
            "Clip@1": Metric(value=self.clip, chance=self.chance),
        }


@torch.inference_mode()
def classify(
    model: Pair,
    modality: str,
    inputs: Inputs,
    batches: Iterator[Batch],
    codes: Tensor,
    device: torch.device,
    heads: int = 1,
) -> list[ClassifyScores]:
    """Score a model whose embedding of ``modality`` is the logits of the classes.

    Args:
        model: the encoder and its classifier.
        modality: ``video`` or ``audio``.
        inputs: transforms.
        batches: each view is one clip of its instances.
        codes: ``(N,)`` the class of each row.
        device: where the model is.
        heads: classifiers whose logits stand side by side.

    Returns:
        The scores of each.

    Raises:
        ValueError: nothing could be read.
    """
    model.eval()
    truth: list[Tensor] = []
    clips: list[Tensor] = []
    failures: list[Failure] = []
    for batch in batches:
        failures += batch.failures
        if not len(batch):
            continue
        truth.append(codes[batch.row])
        views = [
            inputs.prepare({modality: view[modality]}, training=False)
            for view in batch.to(device).views
        ]
        answers = [_probabilities(model, modality, view[modality], heads) for view in views]
        clips.append(torch.stack(answers).cpu())
    if not truth:
        raise ValueError(NOTHING_READ)
    classes, probability = torch.cat(truth), torch.cat(clips, dim=1)
    return [_scores(one, classes, tuple(failures)) for one in probability.unbind(dim=2)]


def _scores(probability: Tensor, classes: Tensor, failures: tuple[Failure, ...]) -> ClassifyScores:
    """Scores by the probabilities ``(clips, N, classes)`` of one classifier."""
    sample, per_class, chance = score_classes(probability.mean(dim=0).argmax(dim=1), classes)
    single = probability.argmax(dim=2) == classes
    return ClassifyScores(
        n=len(classes),
        sample=sample,
        clip=float(single.double().mean()),
        per_class=per_class,
        counts=counts_of(classes),
        chance=chance,
        failures=failures,
    )


def _probabilities(model: Pair, modality: str, x: Tensor, heads: int) -> Tensor:
    """``(B, heads, classes)``."""
    given = {modality: x}
    logits = model(given.get("video"), given.get("audio"))[MODALITIES.index(modality)]
    return torch.softmax(logits.float().unflatten(1, (heads, -1)), dim=2)
