"""The released AVID-CMA checkpoints: their names, and the architecture that shapes tell."""

import re
from collections.abc import Mapping

from earsight.config import Tree

Shape = tuple[int, ...]

PREFIXES = {
    "module.video_model.": "video_encoder.",
    "module.audio_model.": "audio_encoder.",
    "module.video_proj.": "video_head.",
    "module.audio_proj.": "audio_head.",
}
"""Prefix of a key in a released checkpoint's ``model`` to its prefix in :class:`Pair`."""

DEPTHS = {(1, 1, 1, 1): 10, (2, 2, 2, 2): 18, (3, 4, 6, 3): 34}
"""Blocks per stage to the depth: the published network of one block each pools in its stem."""

_STAGES = ("conv2x", "conv3x", "conv4x", "conv5x")


def renamed(key: str) -> str:
    """The key in the state dict of :class:`Pair` for a key of a released checkpoint's ``model``.

    Raises:
        ValueError: the key belongs to none of the four parts.
    """
    for theirs, ours in PREFIXES.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    raise ValueError(
        f"{key!r} is no key of a released AVID-CMA model; "
        f"its keys begin with one of {', '.join(PREFIXES)}"
    )


def read_architecture(shapes: Mapping[str, Shape]) -> Tree:
    """The settings of encoders and heads that the shapes of their weights decide.

    Strides leave no trace in shapes, so those of the audio encoder are not among them.

    Args:
        shapes: by name in the state dict of :class:`Pair`.

    Returns:
        ``video_encoder`` (depth and width), ``audio_encoder`` (width) and ``head`` (widths), a
        tree of settings.

    Raises:
        ValueError: the weights are of another architecture, or some are missing.
    """
    counts = tuple(_block_count(shapes, stage) for stage in _STAGES)
    if counts not in DEPTHS:
        raise ValueError(
            f"its video encoder has {counts} blocks in the four stages, which is no R(2+1)D that "
            f"can be imported; those have {', '.join(map(str, DEPTHS))}"
        )
    heads = [_head_widths(shapes, name) for name in ("video_head", "audio_head")]
    if heads[0] != heads[1]:
        raise ValueError(
            f"its heads have layers of {heads[0]} and {heads[1]}; only equal ones can be imported"
        )
    return {
        "video_encoder": {
            "name": "r2plus1d",
            "depth": DEPTHS[counts],
            "width": _outputs(shapes, "video_encoder.conv1.0.weight"),
        },
        "audio_encoder": {
            "name": "conv2d-audio",
            "width": _outputs(shapes, "audio_encoder.conv1.0.weight"),
        },
        "head": {"hidden": list(heads[0][:-1]), "dim": heads[0][-1], "norm": False},
    }


def check_shapes(found: Mapping[str, Shape], expected: Mapping[str, Shape]) -> None:
    """Every weight must be there, in its shape, and no other.

    Raises:
        ValueError: says how many are missing, too many or of another shape, and names one.
    """
    missing = [name for name in expected if name not in found]
    if missing:
        raise ValueError(
            f"it lacks {len(missing)} of {len(expected)} weights, such as {_theirs(missing[0])}; "
            "take the whole checkpoint"
        )
    wrong = [name for name in expected if found[name] != expected[name]]
    if wrong:
        raise ValueError(
            f"{len(wrong)} of its weights have another shape, such as {_theirs(wrong[0])}: "
            f"{found[wrong[0]]} instead of {expected[wrong[0]]}"
        )
    unknown = [name for name in found if name not in expected]
    if unknown:
        raise ValueError(
            f"it has {len(unknown)} weights of another architecture, such as {_theirs(unknown[0])}"
        )


def _theirs(name: str) -> str:
    """The name that the checkpoint has for a weight."""
    prefix = next(ours for ours in PREFIXES.values() if name.startswith(ours))
    back = {ours: theirs for theirs, ours in PREFIXES.items()}
    return back[prefix] + name.removeprefix(prefix)


def _block_count(shapes: Mapping[str, Shape], stage: str) -> int:
    start = f"video_encoder.{stage}."
    return len({name.split(".")[2] for name in shapes if name.startswith(start)})


def _head_widths(shapes: Mapping[str, Shape], head: str) -> tuple[int, ...]:
    """Outputs of the linear layers, the embedding last."""
    pattern = re.compile(rf"{head}\.projection\.(\d+)\.weight")
    layers = sorted(int(found[1]) for name in shapes if (found := pattern.fullmatch(name)))
    if not layers:
        raise ValueError(f"it lacks its heads, {_theirs(f'{head}.')}projection.*")
    return tuple(_outputs(shapes, f"{head}.projection.{layer}.weight") for layer in layers)


def _outputs(shapes: Mapping[str, Shape], name: str) -> int:
    """The first dimension of a weight."""
    shape = shapes.get(name)
    if not shape:
        raise ValueError(f"it lacks {_theirs(name)}, or has it without dimensions")
    return shape[0]
