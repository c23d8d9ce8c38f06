"""What evaluations are called, and what they say of themselves."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from earsight.config import RunConfig, Tree, as_tree
from earsight.corpus.manifest import read
from earsight.evaluation.repeats import Repeat
from earsight.presets import difference, protocols

_CLASSIFIED = (
    "{clips} evenly spaced clips averaged; fitted on at most {probe_samples} training instances."
)

PROTOCOLS = {
    "retrieve": (
        "Cross-modal retrieval of held-out clips in a fixed gallery of at most {gallery}, one "
        "centre clip each, within the spaces that the method trains to agree; of both directions "
        "together, the mean log-rank and its deviation if pairs were matched at random. By label, "
        "retrieval of training instances (at most {probe_samples}) of the same class by held-out "
        "ones, {clips} evenly spaced clips averaged: within a modality by pooled features before "
        "any head, across by the spaces' embeddings; equals in random order."
    ),
    "knn": f"Cosine kNN (k = 20) on pooled encoder features before any head, {_CLASSIFIED}",
    "probe": (
        "Multinomial logistic regression on standardised encoder features before any head: pooled, "
        "or the activations of blocks max-pooled to grids (12×12, 8×8, 6×6 and 4×4 cells for "
        f"blocks 1 to 4); C chosen on a tenth of the training split; {_CLASSIFIED}"
    ),
    "svm": (
        "One-vs-all linear SVMs (squared hinge loss) on standardised features of single clips, "
        "{svm_layer}, of which each training instance gives {svm_clips} and each held-out one "
        "{clips}, evenly spaced; C chosen on a tenth of the training split. Clip@1 scores single "
        "clips, Sample@1 the mean of an instance's scores. Fitted on at most {probe_samples} "
        "training instances."
    ),
    "classify": (
        "The run's own classifier on held-out clips: Clip@1 scores single clips, Sample@1 the mean "
        "class probabilities of {clips} evenly spaced clips."
    ),
}

_NO_LABELS = "the corpus has no labels to classify by; scan it again with --labels"
NOTHING = {
    "retrieve": (
        "this method trains no space in which pictures and sounds can be compared, and the corpus "
        "has no labels to retrieve by"
    ),
    "svm": _NO_LABELS,
    "knn": _NO_LABELS,
    "probe": _NO_LABELS,
    "classify": "this method has learned no classifier; only supervised runs have one",
}
"""Why a task has no figures."""


def evaluation_name(
    task: str,
    before: RunConfig,
    config: RunConfig,
    repeats: Sequence[Repeat],
    *,
    modality: str | None = None,
    preset: str | None = None,
) -> str:
    """What an evaluation's file is called: by its task, and by what tells it from others.

    Args:
        task: its name.
        before: settings of the run.
        config: of the evaluation.
        repeats: its folds and seeds.
        modality: the one that is evaluated alone.
        preset: name of the protocol.
    """
    parts = [part for part in (task, modality, preset) if part]
    if config.data.corpus != before.data.corpus:
        parts.append(plain_name(Path(config.data.corpus).stem))
    return "-".join([*parts, *repeat_parts(repeats)])


def repeat_parts(repeats: Sequence[Repeat]) -> list[str]:
    """Folds and number of seeds as parts of a name; nothing of the manifest's split, once."""
    folds = sorted({repeat.fold for repeat in repeats if repeat.fold})
    seeds = len({repeat.seed for repeat in repeats})
    parts = ["fold" + "-".join(map(str, folds))] if folds else []
    return parts + ([f"{seeds}seeds"] if seeds > 1 else [])


def plain_name(text: str) -> str:
    """Text as a part of a file's name."""
    return re.sub(r"[^\w-]", "_", text)


def classifier_text(task: str, settings: Tree, *, trained: bool) -> str:
    """What classified the features and how it was fitted, in words; empty where nothing did.

    Args:
        task: the evaluation.
        settings: a tree with the sections ``evaluation``, ``optimizer`` and ``train``, as far as
            they decide it.
        trained: whether a network or linear layers were trained on clips.
    """
    if trained:
        what = "whole network" if task == "finetune" else "linear layers with batch norm"
        return f"{what}, {_schedule(settings['optimizer'], settings['train'])}"
    if task == "svm":
        clips = settings["evaluation"]["svm_clips"]
        of_each = f"{clips} clip{'s' * (clips > 1)} of each"
        return f"one-vs-all linear SVMs, C chosen on a tenth, fitted on {of_each}"
    return _CLASSIFIERS.get(task, "")


_CLASSIFIERS = {
    "knn": "20 nearest neighbours by cosine",
    "probe": "logistic regression, C chosen on a tenth",
    "memory": "logistic regression, C chosen on a tenth",
    "classify": "the run's own classifier",
}


def _schedule(optimizer: Tree, train: Tree) -> str:
    rate = "constant rate"
    if optimizer["schedule"] == "cosine":
        rate = "falling to zero by a cosine"
    if optimizer["schedule"] == "multistep":
        at = ", ".join(map(str, optimizer["milestones"]))
        rate = f"×{optimizer['gamma']:g} at epochs {at}"
    warm = f", {optimizer['warmup_steps']} steps of warming up" if optimizer["warmup_steps"] else ""
    clips = f"{train['epoch_samples'] or 'all'} clips"
    return (
        f"Adam {optimizer['lr']:g} with weight decay {optimizer['weight_decay']:g}, {rate}{warm}, "
        f"{train['epochs']} epochs of {clips} in batches of {train['batch']}"
    )


def protocol_facts(
    config: RunConfig,
    task: str,
    repeats: Sequence[Repeat],
    instances: int,
    classes: Mapping[str, int],
    preset: str | None = None,
    trained: bool = False,
) -> dict[str, object]:
    """What tells one evaluation's figures from another's, as plain data.

    Args:
        config: of the evaluation.
        task: its name.
        repeats: its folds and seeds.
        instances: of the training split that were fitted on (of the first fold).
        classes: label column to its classes.
        preset: name of the protocol whose settings were taken.
        trained: whether a network or linear layers were trained on clips.
    """
    return {
        "task": task,
        "data": read(config.data.corpus).settings.layout,
        "folds": sorted({repeat.fold for repeat in repeats if repeat.fold}),
        "seeds": sorted({repeat.seed for repeat in repeats}),
        "clips": config.evaluation.clips,
        "frames": config.video.frames,
        "size": config.video.size,
        "instances": instances,
        "classes": dict(classes),
        "preset": preset or "",
        "changed": [] if preset is None else _changed(preset, as_tree(config)),
        "classifier": classifier_text(task, as_tree(config), trained=trained),
    }


def _changed(preset: str, tree: Tree) -> list[str]:
    """The settings of clips that are not those of a protocol, but for what facts name anyway."""
    wanted = protocols.load(preset).settings
    clips: Tree = {name: wanted[name] for name in ("video", "audio") if name in wanted}
    return [
        f"{path}={value}"
        for path, theirs, value in difference(clips, tree)
        if theirs is not None and path not in ("video.frames", "video.size")
    ]
