"""Evaluation of what a run's dictionaries are filled with: figures, and clips to look at."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earsight.config import RunConfig
from earsight.corpus.instances import Instances
from earsight.evaluation.labels import choose_labels
from earsight.evaluation.load import Progress, evaluation_config, make_evaluator
from earsight.evaluation.negatives import (
    DRAWS,
    SIZES,
    Codes,
    Direction,
    Encoded,
    Norms,
    categories,
    directions,
    gradient_norms,
    sizes_for,
    unique_categories,
    with_product,
)
from earsight.evaluation.negatives_encode import encode_checkpoints
from earsight.evaluation.negatives_rows import Figures, judge, plain, rows_of
from earsight.evaluation.protocol import sample_rows
from earsight.evaluation.results import Evaluation, write_evaluation
from earsight.evaluation.shown import ShownExample, shown_clip
from earsight.methods.choice import RULES
from earsight.methods.momentum import MomentumConfig, PosteriorConfig
from earsight.training.checkpoint import steps_saved
from earsight.training.devices import choose_device, describe_machine, prepare_machine
from earsight.training.resume import last_checkpoint
from earsight.training.run_folder import read_config
from earsight.training.setup import Data, blank_inputs, open_data
from earsight.training.start import rows_of as places_of

_SHOWN = 8

CHOSEN, RANDOM = "chosen by gradient, highest norms", "random"
"""Titles of the negatives that are shown."""

_PROTOCOL = (
    "Centre clips of {clips} training instances, encoded by the query and key encoders of "
    "{checkpoints}. Unique categories among M keys that a rule chooses from a pool of 16 M other "
    "clips (or all that there are) by the queries of a batch of M, mean of {draws} draws; random, "
    "OHEM, D² seeding over features, and over gradients. Gradient norms of negatives chosen by "
    "their gradients and at random, and the norm of the pseudo-posteriors' residuals, quantiles, "
    "for M = {size}{choice}. Pretext accuracy: the true clip's key comes first among as many of "
    "other clips as the dictionary holds, averaged over all such sets."
)


@dataclass(frozen=True, kw_only=True)
class _Clips:
    """Encoded clips, their categories, and what to say of those left out."""

    instances: Instances
    checkpoints: Sequence[Encoded]
    labels: Codes
    notes: list[str]


def evaluate_negatives(
    run: Path,
    *,
    corpus: Path | None = None,
    settings: Sequence[str] = (),
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate what enters the dictionaries of a run; writes ``RUN/evaluation/negatives.json``.

    Args:
        run: the run folder, of a method with momentum encoders.
        corpus: the corpus that it was trained on, where that has moved.
        settings: ``evaluation.`` and ``data.`` settings to change.
        progress: told of decoded batches.

    Raises:
        ValueError: the run has no dictionary or no checkpoint, the corpus is too small, or a
            setting or label cannot be used.
    """
    began = time.monotonic()
    config = evaluation_config(read_config(run), corpus, settings)
    method = _method(run, config)
    prepare_machine(config)
    clips = _encode(run, config, progress)
    choice = method if isinstance(method, PosteriorConfig) else PosteriorConfig()
    # So many are looked at as are asked for, whatever the run's dictionary holds.
    choice = replace(choice, dictionary=None)
    figures = _figures(config, method, choice, clips)
    evaluation = Evaluation(
        name="negatives",
        protocol=_PROTOCOL.format(
            clips=len(clips.instances),
            checkpoints=_steps(clips.checkpoints),
            draws=DRAWS,
            size=sizes_for(len(clips.instances))[-1],
            choice=_choice_text(choice),
        ),
        seed=config.seed,
        corpus=config.data.corpus,
        weights=f"{run.name}, step {figures.step}",
        rows=tuple(rows_of(figures)),
        seconds=time.monotonic() - began,
        details={
            "machine": describe_machine(choose_device(config.device)),
            "notes": clips.notes,
            "notices": [],
            "clips": len(clips.instances),
            "keys": figures.keys,
            "unique": [plain(one) for one in figures.unique],
            "pretext": [plain(one) for one in figures.judged],
            "examples": [
                _example(clips.instances, direction, norms).as_dict()
                for direction, norms in figures.norms.items()
            ],
        },
    )
    write_evaluation(run, evaluation)
    return evaluation


def _example(instances: Instances, direction: Direction, norms: Norms) -> ShownExample:
    """Negatives of a dictionary: chosen by their gradients, and random ones."""
    return ShownExample(
        title=str(direction),
        reference=None,
        groups={
            title: tuple(shown_clip(instances, row, norm=norm) for row, norm in some[:_SHOWN])
            for title, some in ((CHOSEN, norms.best), (RANDOM, norms.others))
        },
    )


def _encode(run: Path, config: RunConfig, progress: Progress | None) -> _Clips:
    """The clips by all checkpoints."""
    saved = last_checkpoint(run)
    if saved is None:
        raise ValueError(
            f"{run} has no checkpoint, in which its key encoders would be; train it to the first, "
            "or bring back its folder of checkpoints"
        )
    data = open_data(config, learning=False, once=True)
    rows = sample_rows(data.train, config.evaluation.negatives)
    _check_size(config, len(rows))
    notes: list[str] = []
    inputs = blank_inputs(config)
    inputs.load_state_dict(saved["inputs"])
    device = choose_device(config.device)
    evaluator = make_evaluator(
        config, data, inputs.to(device), progress=progress, tell=notes.append
    )
    row, checkpoints = encode_checkpoints(run, steps_saved(run), evaluator, rows)
    _check_size(config, len(row))
    instances = data.train.take(row)
    notes = [*dict.fromkeys(notes), *_strangers(saved, instances)]
    labels = _labels(config, data, row, notes)
    _note_left_out(len(row), checkpoints, notes)
    return _Clips(instances=instances, checkpoints=checkpoints, labels=labels, notes=notes)


def _figures(
    config: RunConfig, method: MomentumConfig, choice: PosteriorConfig, clips: _Clips
) -> Figures:
    """All figures; adds to the clips' notes what is left out."""
    last, within = clips.checkpoints[-1], method.name == "smoco"
    keys = min(method.size, len(last) - 1)
    if within:
        clips.notes.append(
            "no pretext accuracy: the method tells views of a clip apart, and here there is one"
        )
    elif keys < method.size:
        clips.notes.append(
            f"pretext accuracy among {keys} keys instead of the dictionary's {method.size}: no "
            "more other clips were encoded (evaluation.negatives says how many at most)"
        )
    labels = with_product(clips.labels)
    return Figures(
        step=last.step,
        unique=[
            one
            for encoded in clips.checkpoints
            for one in unique_categories(
                encoded, labels, settings=choice, within=within, seed=config.seed
            )
        ],
        norms={
            direction: gradient_norms(last, direction, settings=choice, seed=config.seed)
            for direction in directions(within)
        },
        judged=[]
        if within
        else judge(last, method, keys, clips.labels, clips.instances.vocabulary),
        keys=keys,
    )


def _method(run: Path, config: RunConfig) -> MomentumConfig:
    method = config.method
    if not isinstance(method, MomentumConfig):
        others = ", ".join(dict.fromkeys(["smoco", "xmoco", *RULES]))
        raise ValueError(
            f"{run} has no dictionary of negatives (its method is {method.name}); they are looked "
            f"at in runs of {others}"
        )
    return method


def _check_size(config: RunConfig, clips: int) -> None:
    if not sizes_for(clips):
        raise ValueError(
            f"{config.data.corpus}: {clips} training clips are too few for a batch of {SIZES[0]} "
            f"and a pool of twice as many; {3 * SIZES[0]} are needed: scan more videos"
        )


def _strangers(saved: Mapping[str, Any], clips: Instances) -> list[str]:
    known = places_of(clips.key, saved["keys"].numpy().view(np.uint64)) >= 0
    new = int((~known).sum())
    return [f"{new} of the clips were not trained on"] if new else []


def _labels(
    config: RunConfig, data: Data, row: NDArray[np.int64], notes: list[str]
) -> dict[str, NDArray[np.int64]]:
    """Columns of single labels, of the clips at ``row``; adds what is left out to the notes."""
    others = data.held_out if len(data.held_out) else data.train
    chosen = choose_labels(data.train.labels, others.labels, config.evaluation.labels)
    notes += [str(chosen)] if str(chosen) else []
    found = {}
    for name, every in chosen.train.items():
        codes = every[row].astype(np.int64)
        if codes.ndim > 1:
            notes.append(f"label {name} left out: it holds several labels for one clip")
        elif categories(codes) < 2:
            notes.append(
                f"label {name} left out: these clips have fewer than two of its categories"
            )
        else:
            found[name] = codes
    if not found:
        notes.append(
            "no labels, so no unique categories and no accuracy per category; scan the corpus "
            "again with --labels"
        )
    return found


def _note_left_out(clips: int, checkpoints: Sequence[Encoded], notes: list[str]) -> None:
    if without := [size for size in SIZES if size not in sizes_for(clips)]:
        notes.append(
            f"M = {', '.join(map(str, without))} left out: batch and pool take three times as many "
            f"clips, and there are {clips}"
        )
    if len(checkpoints) == 1:
        notes.append(
            "nothing over steps: the run has one checkpoint; more are kept by train.keep_last or "
            "train.keep"
        )


def _choice_text(choice: PosteriorConfig) -> str:
    vectors = "normalised" if choice.choice_normalise else "unnormalised"
    return f", of {vectors} vectors at temperature {choice.choice_temperature:g}"


def _steps(checkpoints: Sequence[Encoded]) -> str:
    steps = ", ".join(str(one.step) for one in checkpoints)
    return f"the checkpoints of steps {steps}" if len(checkpoints) > 1 else f"step {steps}"
