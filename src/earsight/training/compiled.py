"""Encoders that run compiled, beside the same ones as they are, which evaluations use."""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from earsight.encoders.pair import Pair
from earsight.processor import compiler


class Compiled(nn.Module):
    """What a pair gives, from its own weights, with its encoders compiled.

    Heads are small, and methods look into them: they run as they are. Shapes are compiled in;
    batches of a run all have the same.

    Args:
        pair: encoders and heads.
    """

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self.pair = pair
        # A dictionary hides them from torch: their weights are those of the pair.
        self._encoders: dict[str, Any] = {
            name: torch.compile(encoder, dynamic=False) for name, encoder in pair.encoders.items()
        }

    def forward(
        self, video: Tensor | None, audio: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """See :meth:`~earsight.encoders.pair.Pair.forward`."""
        given = {"video": video, "audio": audio}
        features = {
            name: encoder(given[name])
            for name, encoder in self._encoders.items()
            if given[name] is not None
        }
        embedded = self.pair.project(features)
        return embedded.get("video"), embedded.get("audio")


def require_compiler(device: torch.device) -> None:
    """Make sure of what compiles for a device.

    Raises:
        ValueError: it is not installed.
    """
    if compiler() is None:
        raise ValueError(
            "train.compile: no C++ compiler is found; install g++ or clang, name one in CXX, or "
            "set train.compile=none"
        )
    if device.type == "cuda" and find_spec("triton") is None:
        raise ValueError(
            "train.compile: on a GPU it needs Triton, which is not installed; "
            "pip install triton, or set train.compile=none"
        )
