"""Supervised learning of one modality from the labels of its clips: the usual baseline."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from earsight.config import METHODS, HeadConfig, section
from earsight.corpus.batch import Batch, View
from earsight.methods.base import Method, Needs, Spaces, Step


@section
class SupervisedConfig:
    """A linear classifier on one encoder, both trained by cross-entropy.

    The other modality's encoder is not built; its settings and those of the section ``head`` have
    no effect.

    Attributes:
        label: the label column to learn; instances without it are left out of training.
        modality: whose encoder is trained.
        classes: names of the classes, in the order of the classifier's outputs; empty takes those
            of the training split. Instances of other classes are left out.
        blocks: freeze the encoder, and learn a linear layer on each of these, ``pooled`` or blocks
            by number (a linear probe); empty trains the whole network.
    """

    name: str = "supervised"
    label: str = ""
    modality: Literal["video", "audio"] = "video"
    classes: tuple[str, ...] = ()
    blocks: tuple[Literal["pooled", 1, 2, 3, 4], ...] = ()

    def heads(self, _: HeadConfig) -> dict[str, HeadConfig]:
        """One linear layer with an output for each class, on one encoder."""
        return {self.modality: HeadConfig(hidden=(), dim=max(2, len(self.classes)), norm=False)}

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        if not self.label:
            yield "label: name the label column to learn, such as method.label=digit"
        if len(self.classes) == 1 or len(set(self.classes)) < len(self.classes):
            yield "classes: name two or more, each once, or none"
        if len(set(self.blocks)) < len(self.blocks):
            yield "blocks: name each once"


class Supervised(Method):
    """Cross-entropy of the classes of one label column; without state."""

    def __init__(self, settings: SupervisedConfig) -> None:
        super().__init__()
        self.settings = settings

    @property
    def needs(self) -> Needs:
        """One view, and labels."""
        return Needs(labels=True)

    @property
    def spaces(self) -> Spaces:
        """None: there is one modality."""
        return frozenset()

    def loss(self, model: nn.Module, batch: Batch) -> Step:
        """``−log softmax(z)[label]``, averaged over the batch, and summed over blocks if there are.

        The model's embedding is the logits ``z (B, classes)``, of several blocks side by side.
        Metric: ``accuracy``, of several blocks their mean.

        Raises:
            ValueError: the batch has no labels.
        """
        if batch.labels is None:
            raise ValueError("supervised learning needs batches with labels")
        logits = self._logits(model, batch.views[0]).float()
        by_block = logits.view(len(logits), max(1, len(self.settings.blocks)), -1)
        correct = by_block.detach().argmax(dim=2) == batch.labels[:, None]
        losses = [F.cross_entropy(one, batch.labels) for one in by_block.unbind(dim=1)]
        return Step(
            loss=torch.stack(losses).sum(),
            metrics={"accuracy": correct.float().mean()},
            updates={},
        )

    def embed(self, model: nn.Module, view: View) -> dict[str, Tensor]:
        """Nothing: logits are no embedding to compare clips by."""
        return {}

    def _logits(self, model: nn.Module, view: View) -> Tensor:
        modality = self.settings.modality
        given = {modality: view[modality]}
        video, audio = model(given.get("video"), given.get("audio"))
        logits = video if modality == "video" else audio
        assert isinstance(logits, torch.Tensor)
        return logits


@METHODS.register("supervised", SupervisedConfig)
def build_supervised(settings: SupervisedConfig, *, size: int, dim: int, seed: int) -> Supervised:
    """The method that ``settings`` describe; it keeps nothing by row."""
    return Supervised(settings)
