"""A run opened to be evaluated: its encoders, its settings, its clips."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from earsight.config import ConfigError, RunConfig, Tree, as_tree, merge, override, parse
from earsight.corpus.instances import Instances
from earsight.corpus.manifest import read, resolved
from earsight.corpus.split import Task
from earsight.evaluation.features import Encoder, Features
from earsight.evaluation.labels import LabelChoice, choose_labels
from earsight.evaluation.protocol import Evaluator
from earsight.methods.base import Spaces
from earsight.training.devices import choose_device, worker_count
from earsight.training.origin import Origin, read_origin
from earsight.training.resume import learned_keys
from earsight.training.run_folder import load_encoders, read_config
from earsight.training.setup import Data, build_method, build_model, open_data, task_of
from earsight.training.targets import target_of
from earsight.transforms.inputs import Inputs

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A run's encoders, ready to use.

    Attributes:
        config: the run's settings.
        encoder: model and method.
        inputs: transforms with their statistics.
        origin: where imported weights come from, as their folder says.
        notices: what must be said of imported weights, as folder or file say.
    """

    config: RunConfig
    encoder: Encoder
    inputs: Inputs
    origin: Origin | None = None
    notices: tuple[str, ...] = ()


def load_run(run: Path, device: torch.device, size: int = 2) -> Loaded:
    """Encoders, method and inputs of a finished run.

    Args:
        run: the run folder, or what was exported of it: a folder, or a .safetensors file.
        device: where they are put.
        size: rows of the method's state (of no matter for its embeddings).

    Raises:
        ValueError: the folder is no run, or it has not finished.
    """
    alone = run.suffix == ".safetensors" and not run.is_dir()
    if not alone:
        read_config(run)
    saved = load_encoders(run if alone else run / "encoders.safetensors")
    encoder = random_encoder(saved.config, device, size)
    encoder.model.load_state_dict(saved.model)
    if encoder.method.keys is not None:
        encoder.method.keys.load_state_dict(saved.keys)
    origin = None if alone else read_origin(run)
    return Loaded(
        config=saved.config,
        encoder=encoder,
        inputs=saved.inputs.to(device),
        origin=origin,
        notices=saved.notices if origin is None else origin.notices,
    )


def require_media(loaded: Loaded, run: Path | str) -> None:
    """Refuse encoders of pairs of pictures where files of films and sounds are to be encoded.

    Raises:
        ValueError: the run has learned from such pairs.
    """
    if loaded.config.pictures.cells:
        raise ValueError(
            f"{run}: has learned from pairs of pictures, and its encoders take neither films nor "
            "sounds; give a run that was made on these"
        )


def random_encoder(config: RunConfig, device: torch.device, size: int = 2) -> Encoder:
    """The encoders of a run at their random initialisation."""
    model, method = build_model(config, device), build_method(config, size, device)
    method.attach(model)
    return Encoder(model=model, method=method)


def make_evaluator(
    config: RunConfig,
    data: Data,
    inputs: Inputs,
    *,
    task: Task | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> Evaluator:
    """The evaluator of a run under way: it keeps nothing, and probes pooled features alone."""
    return Evaluator(
        config=config,
        data=data,
        labels=choose_labels(
            data.train.labels,
            data.held_out.labels,
            config.evaluation.labels,
            data.train.group,
        ),
        inputs=inputs,
        device=choose_device(config.device),
        workers=worker_count(config),
        task=task or task_of(config),
        progress=progress,
        tell=tell,
    )


def evaluation_config(
    config: RunConfig, corpus: Path | None, settings: Sequence[str], over: Tree | None = None
) -> RunConfig:
    """The run's settings with those changed that do not change what was learned.

    Args:
        config: of the run.
        corpus: another one, or None.
        settings: changes.
        over: settings of a protocol, which come before these.

    Raises:
        ConfigError: names every setting that does, or that cannot be used.
    """
    free = ("evaluation.", "data.", "threads", "device")
    # What is no setting at all is told so below.
    wrong = [s for s in settings if "=" in s and not s.startswith(free)]
    if wrong:
        raise ConfigError(
            [
                f"{s}: decides what was learned; only evaluation. and data. settings may change"
                for s in wrong
            ]
        )
    tree = merge(as_tree(config), over or {})
    return parse(with_corpus(override(tree, settings), corpus))


def check_unseen(
    run: Path, before: RunConfig, configs: Sequence[RunConfig], held_out: NDArray[np.uint64]
) -> list[str]:
    """What to tell where a run has learned from instances that are held out here.

    Args:
        run: its folder; where no checkpoint is left, what it has learned from is what its settings
            choose from the corpus now.
        before: of the run.
        configs: of what is measured.
        held_out: keys of the instances.

    Raises:
        ValueError: it has learned their labels, too.
    """
    alike = all(_division(config) == _division(before) for config in configs)
    corpus = configs[0].data.corpus
    if not alike and not _same_corpus(corpus, before.data.corpus):
        return []
    learned = learned_keys(run)
    if learned is None and alike:
        return []
    if learned is None:
        there = replace(before, data=replace(before.data, corpus=corpus))
        learned = open_data(there, learning=False, once=True).train.key
    seen = int(np.isin(held_out, learned).sum())
    if not seen:
        return []
    text = f"the run has learned from {seen} of the {len(held_out)} instances that are held out"
    # The same settings have chosen them.
    why = f"{corpus} was divided in another way since" if alike else ""
    if target_of(before) is None:
        return [f"{text}, without their labels" + (f": {why}" if why else "")]
    if alike:
        raise ValueError(
            f"{text}, and their labels: {why}; scan as before into another manifest and give that "
            "by --corpus, or train a run on what there is now"
        )
    raise ValueError(
        f"{text}, and their labels: it was trained with data.fold={before.data.fold}, data.holdout="
        f"{before.data.holdout} and seed={before.seed}; keep these, or train a run for each other "
        "split"
    )


def _same_corpus(one: str, other: str) -> bool:
    """Whether both name one manifest, or a corpus and its prepared form, whose keys are the same.

    A run's own corpus that is elsewhere, or gone, is not looked for.
    """
    if resolved(one) == resolved(other):
        return True
    if not other or not Path(other).exists():
        return False
    first, second = (np.sort(read(name).column("key")) for name in (one, other))
    return np.array_equal(first, second)


def _division(config: RunConfig) -> tuple[str, int, float, int]:
    """What decides which instances of which corpus are held out."""
    data = config.data
    return resolved(data.corpus), data.fold, data.holdout, config.seed


def with_corpus(tree: Tree, corpus: Path | None) -> Tree:
    """Settings for another corpus, if one is given."""
    if corpus is None:
        return tree
    return merge(tree, {"data": {"corpus": resolved(corpus)}})


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The held-out gallery of a run as its encoders see it.

    Attributes:
        features: one centre clip each.
        instances: those that the features' rows name.
        labels: the columns that it can be told apart by.
        spaces: embeddings that the method compares.
    """

    features: Features
    instances: Instances
    labels: LabelChoice
    spaces: Spaces


def embed_held_out(
    run: Path, *, corpus: Path | None = None, progress: Progress | None = None
) -> HeldOut:
    """Embeddings of the run's held-out gallery; what an evaluation has kept is not decoded again.

    Args:
        run: the run folder.
        corpus: another corpus than the run's.
        progress: told of decoded batches.

    Raises:
        ValueError: the run has not finished, or its corpus cannot be used.
        RunError: a decoding process fails.
    """
    loaded = load_run(run, choose_device(read_config(run).device))
    config = evaluation_config(loaded.config, corpus, ())
    data = open_data(config, learning=False, once=True)
    if not len(data.held_out):
        raise ValueError(f"{config.data.corpus}: no instance is held out")
    evaluator = replace(
        make_evaluator(config, data, loaded.inputs, progress=progress),
        cache=run / "evaluation" / "features",
    )
    return HeldOut(
        features=evaluator.gallery_features([loaded.encoder])[0],
        instances=data.held_out,
        labels=evaluator.labels,
        spaces=loaded.encoder.method.spaces,
    )
