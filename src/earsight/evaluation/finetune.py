"""Fine-tuning: one encoder of a run trained further as a classifier (methods.md §8).

It is a run of the method ``supervised`` in a folder of its own inside the run, and is resumed like
any other. From scratch, everything but the first weights is the same. A linear probe that is
trained on augmented clips is one too, of frozen blocks.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from earsight.config import ConfigError, RunConfig, Tree, as_tree, merge, override, parse
from earsight.corpus.instances import Instances
from earsight.evaluation.load import (
    Progress,
    check_unseen,
    load_run,
    make_evaluator,
    with_corpus,
)
from earsight.evaluation.repeats import Repeat
from earsight.evaluation.results import Evaluation, read_evaluation, write_evaluation
from earsight.evaluation.short import same_clips
from earsight.evaluation.tasks import evaluate_tasks
from earsight.evaluation.texts import plain_name, protocol_facts
from earsight.presets.protocols import EvaluationPreset
from earsight.training.devices import describe_machine, prepare_machine
from earsight.training.resume import last_checkpoint
from earsight.training.run_folder import read_config
from earsight.training.setup import Data, open_data
from earsight.training.targets import label_codes, with_classes

SCHEDULE: Tree = {
    "optimizer": {
        "lr": 1e-3,
        "weight_decay": 1e-5,
        "schedule": "cosine",
        "warmup_steps": 20,
        "milestones": [],
        "gamma": 0.1,
        "clip_norm": 0.0,
    },
    "train": {"accumulate": 1, "epochs": 20, "checkpoint_every": 0, "keep": []},
    "evaluation": {"every": 0, "tasks": ["classify"], "clips": 3},
    "data": {"pairs": "true"},
}
"""Settings laid over those of the run, made for small encoders: Adam, a rate that falls to zero.

Added to them are ``train.batch``, 32 or as many instances as there are, and
``train.epoch_samples``, all instances, but at least 20 batches: few labels are seen more often.
"""

_BATCH = 32
_BATCHES = 20
_START = "../../.."


def finetune_config(
    before: RunConfig,
    *,
    modality: str,
    label: str,
    share: float,
    scratch: bool,
    preset: EvaluationPreset | None,
    corpus: Path | None,
    settings: Sequence[str],
) -> RunConfig:
    """Settings of a fine-tuning; arguments as :func:`earsight.api.finetune`.

    Args:
        preset: laid over the schedule; with its blocks, the encoder is frozen.

    Raises:
        ConfigError: names every setting that cannot be used.
        ValueError: the corpus has too few instances with that label.
    """
    tree = with_corpus(finetune_tree(before, modality, label, share, scratch, preset), corpus)
    config = check_finetune(tree, settings)
    over: Tree = {} if preset is None else preset.settings
    data = open_data(config, once=True)
    batch = min(_BATCH, len(data.train))
    sizes = {"batch": batch, "epoch_samples": max(len(data.train), _BATCHES * batch)}
    sized = parse(override(merge(merge(tree, {"train": sizes}), over), settings))
    return with_classes(sized, data.train)


def finetune_tree(
    before: RunConfig,
    modality: str,
    label: str,
    share: float = 1.0,
    scratch: bool = False,
    preset: EvaluationPreset | None = None,
) -> Tree:
    """The settings of a fine-tuning before any change."""
    over: Tree = {} if preset is None else preset.settings
    tree = merge(merge(as_tree(before), SCHEDULE), over)
    blocks = [] if preset is None else list(preset.blocks)
    tree["method"] = {"name": "supervised", "label": label, "modality": modality, "blocks": blocks}
    tree |= {"start": "" if scratch else _START, "start_epoch": 0}
    return merge(tree, {"data": {"share": share}})


def check_finetune(tree: Tree, settings: Sequence[str]) -> RunConfig:
    """The settings of a fine-tuning with their changes, before its corpus is known.

    Raises:
        ConfigError: names every setting that cannot be used.
    """
    reserved = [s for s in settings if s.startswith(("method", "start", "data.share"))]
    if reserved:
        raise ConfigError(
            [f"{s}: is decided by modality, label, share and scratch; give those" for s in reserved]
        )
    return parse(override(tree, settings))


def finetune_folder(
    run: Path, before: RunConfig, config: RunConfig, preset: EvaluationPreset | None
) -> Path:
    """Where a fine-tuning lies, named by what tells it from the others of the run."""
    method = config.method
    share = f"{100 * config.data.share:g}pc"
    parts = [preset.name] if preset is not None else []
    parts += [method.modality, plain_name(method.label), share, f"seed{config.seed}"]
    parts += [f"fold{config.data.fold}"] if config.data.fold else []
    parts += [] if config.start else ["scratch"]
    other = config.data.corpus != before.data.corpus
    parts += [plain_name(Path(config.data.corpus).stem)] if other else []
    return run / "evaluation" / "finetune" / "-".join(parts)


def reported(run: Path, folder: Path, config: RunConfig, data: Data) -> Evaluation | None:
    """The result that a former call left, None where there is none for these clips.

    Raises:
        ValueError: it is damaged, or the finished fine-tuning has learned from other clips or
            classes than the training split now has.
    """
    path = run / "evaluation" / f"finetune-{folder.name}.json"
    found = read_evaluation(path) if path.exists() else None
    known = {} if found is None else found.details.get("data", {})
    now = data_digests(config, data)
    if known.get("learned", now["learned"]) != now["learned"] or (
        not known and not _keys_learned(folder, data)
    ):
        raise ValueError(
            f"{folder} has learned from other clips or classes than {config.data.corpus} now has: "
            "it was scanned again, or is another corpus of that name; delete the folder to train "
            "anew, or give the manifest a name of its own"
        )
    if found is None or known != now or found.corpus != config.data.corpus:
        return None
    return found if found.details.get("clips") == config.evaluation.clips else None


def data_digests(config: RunConfig, data: Data) -> dict[str, str]:
    """What was learned from and what is tested on: a digest each, of keys and classes."""
    label = config.method.label
    return {"learned": _digest(data.train, label), "tested": _digest(data.held_out, label)}


def _digest(chosen: Instances, label: str) -> str:
    order = np.argsort(chosen.key)
    names = [*chosen.vocabulary[label], None]
    classes = [names[code] for code in label_codes(chosen, label)[order]]
    digest = hashlib.blake2b(np.ascontiguousarray(chosen.key[order]).tobytes(), digest_size=12)
    digest.update(json.dumps(classes).encode())
    return digest.hexdigest()


def _keys_learned(folder: Path, data: Data) -> bool:
    """Whether a finished fine-tuning learned from these instances, by its last checkpoint."""
    state = last_checkpoint(folder)
    if state is None:
        return True
    return np.array_equal(state["keys"].numpy().view(np.uint64), data.train.key)


def learned_before(run: Path, config: RunConfig) -> list[str]:
    """What to tell of held-out clips that the run has learned from, which is gone on with.

    Raises:
        ValueError: it has learned their labels.
    """
    if not config.start:
        return []
    held_out = open_data(config, once=True).held_out
    return check_unseen(run, read_config(run), [config], held_out.key)


def finetune_result(
    run: Path,
    folder: Path,
    config: RunConfig,
    *,
    preset: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Test a finished fine-tuning on the held-out clips; writes the result into the run.

    Args:
        run: that was started from.
        folder: of the fine-tuning.
        config: its settings.
        preset: name of its protocol.
        progress: told of decoded batches.
    """
    began = time.monotonic()
    device = prepare_machine(config)
    loaded = load_run(folder, device)
    data = open_data(config, once=True)
    notes = learned_before(run, config)
    evaluator = make_evaluator(config, data, loaded.inputs, progress=progress, tell=notes.append)
    rows = evaluate_tasks(evaluator, ("classify",), [loaded.encoder])
    notes += same_clips(config, [data.held_out])
    task = "probe" if config.method.blocks else "finetune"
    own = Repeat(seed=config.seed, fold=config.data.fold, rows=())
    start = f"the encoders of {run.name}" if config.start else "a random initialisation"
    evaluation = Evaluation(
        name=f"finetune-{folder.name}",
        protocol=(
            f"{_trained(config)} {start} on "
            f"{len(data.train)} labelled instances ({100 * config.data.share:g} % of each class), "
            f"{config.train.epochs} epochs of {config.train.epoch_samples} clips, batch "
            f"{config.train.batch}. Clip@1 scores single held-out clips, Sample@1 the mean class "
            f"probabilities of {config.evaluation.clips} evenly spaced clips."
        ),
        seed=config.seed,
        corpus=config.data.corpus,
        weights=str(folder.relative_to(run)),
        rows=tuple(replace(row, task=task) for row in rows),
        seconds=time.monotonic() - began,
        details={
            "machine": describe_machine(device),
            "notes": notes,
            "clips": config.evaluation.clips,
            "share": config.data.share,
            "instances": len(data.train),
            "data": data_digests(config, data),
            "from": run.name if config.start else "scratch",
            "protocol": protocol_facts(
                config,
                task,
                [own],
                len(data.train),
                {config.method.label: len(config.method.classes)},
                preset=preset,
                trained=True,
            ),
        },
    )
    write_evaluation(run, evaluation)
    return evaluation


def _trained(config: RunConfig) -> str:
    modality, blocks = config.method.modality, config.method.blocks
    if not blocks:
        return f"The whole {modality} network trained from"
    named = ", ".join(map(str, blocks))
    return (
        f"A linear layer with batch norm trained on each frozen block ({named}, max-pooled to "
        f"grids of cells) of the {modality} network of"
    )
