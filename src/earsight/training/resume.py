"""Going on with a run: only with the settings and the instances it was started with."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from earsight.config import ConfigError, RunConfig, as_tree, parse
from earsight.corpus.instances import Instances
from earsight.presets import difference
from earsight.training.checkpoint import (
    CheckpointError,
    checkpoint_path,
    load_checkpoint,
    steps_saved,
)
from earsight.training.distributed import ALONE, Ranks
from earsight.training.targets import class_codes, target_of

_EACH_ITS_OWN = (
    "threads",
    "device",
    "data.corpus",
    "data.workers",
    "data.prefetch",
    "data.timeout",
    "log.",
    "train.rank_timeout",
)
"""Settings in which even ranks of one run may differ."""

FREE = (
    *_EACH_ITS_OWN,
    "data.max_failures",
    "data.cache",
    "evaluation.",
    "method.bank",
    "method.mining_memory",
    "method.search",
    "train.keep",
    "train.checkpoint_every",
)
"""Settings that may change when a run is resumed: none of them decides a loss."""


def decides(path: str, *values: object) -> bool:
    """Whether a setting decides what is learned, where it has had these values.

    A cache alone does not, unless it is on the device: there pictures are resized in another way.
    """
    return not path.startswith(FREE) or (path == "data.cache" and "device" in values)


def last_checkpoint(run: Path, ranks: Ranks = ALONE) -> dict[str, Any] | None:
    """The newest checkpoint of a run, None where it was stopped before the first.

    Args:
        run: its folder.
        ranks: all of which call this, and read the same one.
    """
    # One of them looks: not all file systems show all machines the same at one time.
    steps = ranks.on_main(lambda: steps_saved(run))
    return load_checkpoint(checkpoint_path(run, steps[-1])) if steps else None


def learned_keys(run: Path) -> NDArray[np.uint64] | None:
    """Keys of what a run learns from, by its newest checkpoint; None where it has none."""
    steps = steps_saved(run)
    if not steps:
        return None
    # Banks are not read for it.
    state = load_checkpoint(checkpoint_path(run, steps[-1]), mapped=True)
    keys: NDArray[np.uint64] = state["keys"].numpy().view(np.uint64).copy()
    return keys


def check_settings(before: RunConfig, config: RunConfig) -> None:
    """What a run was started with must be what it is gone on with.

    Raises:
        ConfigError: names every setting that differs and may not.
    """
    longer = () if config.optimizer.schedule == "cosine" else ("train.epochs",)
    faults = [
        f"{path}: the run was started with {old!r}, now {new!r}; give the old value, "
        "or start a new run"
        for path, old, new in difference(as_tree(before), as_tree(config))
        if path not in longer and decides(path, old, new)
    ]
    if faults:
        raise ConfigError(faults)


def check_resumable(config: RunConfig, train: Instances, state: Mapping[str, Any]) -> None:
    """A checkpoint must be of this configuration and of these instances.

    Raises:
        ConfigError: names every setting that differs.
        CheckpointError: the corpus has gained or lost instances, or their labels have changed.
    """
    # A setting that did not exist then had the value that is now its default.
    check_settings(parse(state["config"]), config)
    saved, found = state["keys"].numpy().view(np.uint64), train.key
    if not np.array_equal(saved, found):
        lost, gained = np.setdiff1d(saved, found).size, np.setdiff1d(found, saved).size
        raise CheckpointError(
            f"the corpus has changed since the run began ({lost} instances lost, {gained} gained); "
            "resume on the corpus it was started with, or start a new run"
        )
    target = target_of(config)
    if target is None or "labels" not in state:
        return
    changed = int((state["labels"].numpy() != class_codes(train, target)).sum())
    if changed:
        raise CheckpointError(
            f"the corpus has changed since the run began ({changed} instances have another "
            f"{target.label}); resume on the corpus it was started with, or start a new run"
        )


def check_alike(config: RunConfig, train: Instances, ranks: Ranks) -> None:
    """All ranks must have been started with the same settings, instances and labels.

    Raises:
        ValueError: names the ranks that differ from rank 0.
    """
    settings = [
        f"{path}={value!r}"
        for path, value, _ in difference(as_tree(config), {})
        if not path.startswith(_EACH_ITS_OWN)
    ]
    text = "\n".join(settings).encode() + train.key.tobytes()
    target = target_of(config)
    if target is not None:
        text += class_codes(train, target).tobytes()
    digest = hashlib.blake2b(text, digest_size=8).digest()
    every = ranks.gather(torch.frombuffer(bytearray(digest), dtype=torch.uint8))
    others = [rank for rank in range(ranks.size) if not torch.equal(every[rank], every[0])]
    if others:
        raise ValueError(
            f"ranks {', '.join(map(str, others))} were started with other settings or another "
            "corpus than rank 0; give every machine the same command and the same manifest"
        )
