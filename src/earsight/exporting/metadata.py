"""What a graph's file says of itself: how its inputs are made, and what its outputs are for."""

import json
import math
from typing import Any

from earsight.exporting.networks import BATCHES, Network
from earsight.exporting.subject import Subject
from earsight.transforms.audio import FLOOR
from earsight.transforms.inputs import Inputs
from earsight.transforms.video_fused import IMAGENET_MEAN, IMAGENET_STD
from earsight.version import __version__

SCHEMA = 1
"""Version of these entries."""


def metadata(subject: Subject, network: Network) -> dict[str, str]:
    """Entries by name: text as it is, everything else as JSON.

    Pictures: ``frames``, ``fps``, ``size``, ``pixel_mean``, ``pixel_std``. Sound: ``sample_rate``,
    ``samples``, ``spectrogram``, ``n_fft``, ``window``, ``hop`` (samples), ``frames``, ``bands``,
    ``padding``, ``top_db``, ``floor_db``, ``mean`` and ``std`` (decibel, per band).
    """
    tree = {
        "schema": SCHEMA,
        "earsight": __version__,
        "name": network.name,
        "modality": network.modality,
        "run": subject.name,
        "method": subject.config.method.name,
        "licence": subject.terms.name,
        "notices": list(subject.terms.notices),
        "input": network.input,
        "input_shape": ["batch", *network.shape],
        "outputs": list(network.outputs),
        "checked_batches": list(BATCHES),
        "compare_with": sorted(of for query, of in subject.spaces if query == network.name),
        **_classes(subject),
        **input_settings(subject.loaded.inputs, network.modality),
    }
    return {name: x if isinstance(x, str) else json.dumps(x) for name, x in tree.items()}


def _classes(subject: Subject) -> dict[str, Any]:
    target = subject.target
    if target is None:
        return {}
    blocks = list(getattr(subject.config.method, "blocks", ()))
    return {"label": target.label, "classes": list(target.classes), "blocks": blocks}


def input_settings(inputs: Inputs, modality: str) -> dict[str, Any]:
    """What it takes to make an encoder's inputs, as plain data."""
    if modality == "video":
        video = inputs.video
        return {
            "frames": video.frames,
            "fps": video.fps,
            "size": video.size,
            "colours": "RGB, scaled to 0..1",
            "pixel_mean": list(IMAGENET_MEAN),
            "pixel_std": list(IMAGENET_STD),
        }
    audio = inputs.audio
    return {
        "sample_rate": audio.rate,
        "samples": round(audio.duration * audio.rate),
        "spectrogram": audio.spectrogram,
        "n_fft": audio.n_fft,
        "window": audio.window,
        "hop": audio.hop_samples,
        "frames": audio.frames,
        "bands": audio.bands,
        "padding": audio.padding,
        "precision": audio.precision,
        "top_db": audio.top_db,
        "floor_db": _decibel(FLOOR),
        "mean": inputs.normalise.mean.tolist(),
        "std": inputs.normalise.std.tolist(),
    }


def _decibel(power: float) -> float:
    return 10 * math.log10(power)
