"""Evaluation of a finished run: its encoders, its held-out clips, the file that it leaves."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from earsight.config import ConfigError, RunConfig, Tree, as_tree, merge, override, parse
from earsight.corpus.instances import Instances
from earsight.evaluation.features import Encoder, Features
from earsight.evaluation.labels import choose_labels
from earsight.evaluation.protocol import Evaluator
from earsight.evaluation.results import Evaluation, write_evaluation
from earsight.training.devices import (
    choose_device,
    describe_machine,
    prepare_machine,
    worker_count,
)
from earsight.training.origin import Origin, read_origin
from earsight.training.run_folder import load_encoders, read_config
from earsight.training.setup import Data, build_method, build_model, open_data
from earsight.transforms.inputs import Inputs

Progress = Callable[[int, int], None]

_CLASSIFIED = (
    "{clips} evenly spaced clips averaged; fitted on at most {probe_samples} training instances."
)

PROTOCOLS = {
    "retrieve": (
        "Cross-modal retrieval of held-out clips in a fixed gallery of at most {gallery}, one "
        "centre clip each, within the spaces that the method trains to agree; of both directions "
        "together, the mean log-rank and its deviation if pairs were matched at random."
    ),
    "knn": f"Cosine kNN (k = 20) on pooled encoder features before any head, {_CLASSIFIED}",
    "probe": (
        "Multinomial logistic regression on standardised encoder features before any head: pooled, "
        "or the activations of blocks max-pooled to grids (12×12, 8×8, 6×6 and 4×4 cells for "
        f"blocks 1 to 4); C chosen on a tenth of the training split; {_CLASSIFIED}"
    ),
    "classify": (
        "The run's own classifier on held-out clips: Clip@1 scores single clips, Sample@1 the mean "
        "class probabilities of {clips} evenly spaced clips."
    ),
}


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A run's encoders, ready to use; ``origin`` says where they come from if not from here."""

    config: RunConfig
    encoder: Encoder
    inputs: Inputs
    origin: Origin | None = None


def load_run(run: Path, device: torch.device, size: int = 2) -> Loaded:
    """Encoders, method and inputs of a finished run.

    Args:
        run: the run folder.
        device: where they are put.
        size: rows of the method's state (of no matter for its embeddings).

    Raises:
        ValueError: the folder is no run, or it has not finished.
    """
    read_config(run)
    saved = load_encoders(run / "encoders.safetensors")
    encoder = random_encoder(saved.config, device, size)
    encoder.model.load_state_dict(saved.model)
    if encoder.method.keys is not None:
        encoder.method.keys.load_state_dict(saved.keys)
    return Loaded(
        config=saved.config,
        encoder=encoder,
        inputs=saved.inputs.to(device),
        origin=read_origin(run),
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
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> Evaluator:
    """The evaluator of a run under way: it keeps nothing, and probes pooled features alone."""
    return Evaluator(
        config=config,
        data=data,
        labels=choose_labels(data.train.labels, data.held_out.labels, config.evaluation.labels),
        inputs=inputs,
        device=choose_device(config.device),
        workers=worker_count(config),
        progress=progress,
        tell=tell,
    )


def evaluate(
    run: Path,
    task: str,
    *,
    corpus: Path | None = None,
    settings: Sequence[str] = (),
    baseline: bool = True,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a run's encoders beside their random initialisation; writes it into the run.

    Features are kept in ``RUN/evaluation/features/``: a second evaluation of the same instances
    with the same weights and settings decodes nothing.

    Args:
        run: the run folder.
        task: ``retrieve`` (with the geometry of the embedding), ``knn``, ``probe``, or, for a
            supervised run, ``classify``.
        corpus: another corpus than the run's.
        settings: ``evaluation.`` and ``data.`` settings to change.
        baseline: measure the random initialisation too (not of a classifier).
        progress: told of decoded batches.

    Raises:
        ValueError: the run or corpus cannot be used for the task.
    """
    if task not in PROTOCOLS:
        raise ValueError(
            f"{task!r} is no evaluation; choose one of {', '.join(PROTOCOLS)} or finetune"
        )
    began = time.monotonic()
    device = choose_device(read_config(run).device)
    loaded = load_run(run, device)
    config = evaluation_config(loaded.config, corpus, settings)
    if not config.data.corpus:
        raise ValueError(f"{run} names no corpus; give one by --corpus, made with `earsight scan`")
    prepare_machine(config)
    encoders = [loaded.encoder]
    if baseline and task != "classify":
        encoders.append(random_encoder(config, device))
    notes: list[str] = []
    evaluator = replace(
        make_evaluator(
            config,
            open_data(config, learning=False, once=True),
            loaded.inputs,
            progress=progress,
            tell=notes.append,
        ),
        blocks=config.evaluation.blocks,
        cache=run / "evaluation" / "features",
    )
    rows = evaluator.rows(_TASKS.get(task, (task,)), encoders)
    if not any(row.task == task for row in rows):
        raise ValueError(_NOTHING[task])
    left_out = str(evaluator.labels) if task in ("knn", "probe") else ""
    evaluation = Evaluation(
        name=task,
        protocol=PROTOCOLS[task].format(**vars(config.evaluation)),
        seed=config.seed,
        corpus=config.data.corpus,
        weights=_weights(run, loaded),
        rows=tuple(rows),
        seconds=time.monotonic() - began,
        details={
            "machine": describe_machine(device),
            "notes": [note for note in (left_out, *notes) if note],
            "notices": list(loaded.origin.notices) if loaded.origin else [],
        },
    )
    write_evaluation(run, evaluation)
    return evaluation


def _weights(run: Path, loaded: Loaded) -> str:
    if loaded.origin is not None:
        return f"{run.name}, imported from {loaded.origin.weights}"
    return f"{run.name}, {loaded.config.train.epochs} epochs"


def embed_held_out(run: Path) -> tuple[Features, Instances]:
    """Embeddings of the run's held-out gallery, and the instances that its rows name."""
    loaded = load_run(run, choose_device(read_config(run).device))
    data = open_data(loaded.config, learning=False, once=True)
    evaluator = make_evaluator(loaded.config, data, loaded.inputs)
    return evaluator.gallery_features([loaded.encoder])[0], data.held_out


def evaluation_config(config: RunConfig, corpus: Path | None, settings: Sequence[str]) -> RunConfig:
    """The run's settings with those changed that do not change what was learned.

    Raises:
        ConfigError: names every setting that does, or that cannot be used.
    """
    wrong = [s for s in settings if not s.startswith(("evaluation.", "data.", "threads", "device"))]
    if wrong:
        raise ConfigError(
            [
                f"{s}: decides what was learned; only evaluation. and data. settings may change"
                for s in wrong
            ]
        )
    return parse(with_corpus(override(as_tree(config), settings), corpus))


def with_corpus(tree: Tree, corpus: Path | None) -> Tree:
    """Settings for another corpus, if one is given."""
    if corpus is None:
        return tree
    return merge(tree, {"data": {"corpus": str(corpus.resolve())}})


_TASKS = {"retrieve": ("retrieve", "pairing", "geometry")}
"""What an evaluation measures, where that is more than its name."""

_NO_LABELS = "the corpus has no labels to classify by; scan it again with --labels"
_NOTHING = {
    "retrieve": "this method trains no space in which pictures and sounds can be compared",
    "knn": _NO_LABELS,
    "probe": _NO_LABELS,
    "classify": "this method has learned no classifier; only supervised runs have one",
}
