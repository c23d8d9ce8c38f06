"""From a configuration to the parts of a run: corpus, encoders, method, input statistics."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earsight.config import METHODS, ConfigError, RunConfig
from earsight.config.checks import no_effect
from earsight.corpus.cache import cache_in_memory, cache_on_disk
from earsight.corpus.cache_fill import Order, Progress
from earsight.corpus.clips import ClipSettings, EvaluationClips
from earsight.corpus.device_cache import DeviceCache
from earsight.corpus.instances import Instances, changed_files, instances, missing_files
from earsight.corpus.loader import load
from earsight.corpus.manifest import Corpus, read
from earsight.corpus.pairs import PairSource, read_pairs, require_kind, with_cells
from earsight.corpus.shards.check import check_prepared
from earsight.corpus.sources import Files, Source
from earsight.corpus.split import Task, Usable, assign, in_folds, split_by_group, usable
from earsight.corpus.tensors import TensorClips
from earsight.encoders.pair import MODALITIES, Pair, build_pair
from earsight.methods.base import Method
from earsight.training.compiled import Compiled, require_compiler
from earsight.training.devices import choose_device, worker_count
from earsight.training.distributed import ALONE, Ranks
from earsight.training.place import place
from earsight.training.step import Parts, make_optimizer
from earsight.training.targets import Target, labelled, take_share, target_of
from earsight.transforms.audio import Spectrogram
from earsight.transforms.inputs import Inputs
from earsight.transforms.statistics import Statistics

STATISTICS_CLIPS = 1000
"""Training instances over which the spectrogram's statistics are taken."""

_CHECKED_FILES = 2000
_STATISTICS_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Data:
    """The usable instances of a corpus, on both sides of its split, and where clips come from."""

    train: Instances
    held_out: Instances
    left_out: Mapping[str, int]
    split: str
    source: Source


def task_of(config: RunConfig) -> Task:
    """What a run needs of an instance: pictures and sound, or the modality that its method has."""
    task: Task = getattr(config.method, "modality", "audio-visual")
    return task


def open_data(
    config: RunConfig,
    *,
    task: Task | None = None,
    learning: bool = True,
    once: bool = False,
    progress: Progress | None = None,
) -> Data:
    """Read the manifest, leave out what cannot be used, split by group, and fill the cache if any.

    Args:
        config: the run's settings.
        task: what is needed of an instance; None for what the run's method needs.
        learning: leave out instances that the method cannot learn from, for want of a label.
        once: clips are read only once, so it is not worth while to fill memory with them.
        progress: told of clips decoded into the cache.

    Raises:
        ValueError: no manifest is named, nothing is usable, or files are gone since the scan.
    """
    if not config.data.corpus:
        raise ValueError("data.corpus: names no manifest; make one with `earsight scan`")
    corpus = read(config.data.corpus)
    require_kind(corpus, config.pictures.cells, config.data.corpus)
    if config.pictures.cells:
        corpus = with_cells(corpus, config.pictures.cells)
        chosen = Usable(mask=np.ones(len(corpus), bool), left_out={})
    else:
        chosen = _usable(config, corpus, task or task_of(config))
    if not chosen.mask.any():
        raise ValueError(_unusable(config, task or task_of(config), chosen.left_out))
    data = config.data
    split = assign(corpus, data.holdout, config.seed, chosen.mask, data.fold)
    target = target_of(config) if learning else None
    train, left_out = _learnable(config, instances(corpus, split.train), target)
    _check_files(config, train, corpus)
    used = split.train | split.held_out
    if data.fold and data.cache == "disk":
        # One cache for all folds: of clips that another one uses too, nothing is decoded again.
        used |= in_folds(corpus, chosen.mask)
    both = instances(corpus, used)
    return Data(
        train=train,
        held_out=instances(corpus, split.held_out),
        left_out={**chosen.left_out, "on neither side of the split": split.unused, **left_out},
        split=split.source,
        source=open_source(config, both, once, progress),
    )


def _usable(config: RunConfig, corpus: Corpus, task: Task) -> Usable:
    """The films and sounds that a task can use; of prepared ones, whether they have what is asked.

    Raises:
        ValueError: they have not, or instances lack sound where that is an error.
    """
    check_prepared(corpus, config.video, config.audio, modalities_of(task))
    return usable(
        corpus,
        audio_missing=config.data.audio_missing,
        keep_duplicates=config.data.keep_duplicates,
        task=task,
    )


def tensor_data(config: RunConfig, tensors: Mapping[str, Tensor]) -> Data:
    """Clips in memory, divided as those of a corpus without splits are.

    Args:
        config: the run's settings; frames are at ``video.fps``, sound at ``audio.rate``.
        tensors: see :class:`~earsight.corpus.tensors.TensorClips`.

    Raises:
        ValueError: a tensor cannot be used, what the method needs is missing, or a setting has no
            effect.
    """
    if config.data.corpus:
        raise ValueError("data.corpus: has no effect where tensors are given; leave it out")
    if config.pictures.cells:
        raise ValueError("pictures.cells: tensors hold films and sounds; leave it out")
    why = "has no effect where tensors are given; leave it out"
    idle = ("fold", "cache", "keep_duplicates", "audio_missing")
    faults = [f"data.{fault}" for fault in no_effect(config.data, why, *idle)]
    if faults:
        raise ConfigError(faults)
    clips = TensorClips(tensors, fps=config.video.fps, rate=config.audio.rate)
    task = task_of(config)
    for name in modalities_of(task):
        if name not in tensors:
            raise ValueError(f"tensors: {config.method.name} needs {name}, which is not there")
    every = clips.instances
    held_out = split_by_group(every.group, config.data.holdout, config.seed)
    train, left_out = _learnable(config, every.take(np.flatnonzero(~held_out)), target_of(config))
    return Data(
        train=train,
        held_out=every.take(np.flatnonzero(held_out)),
        left_out=left_out,
        split="clips drawn at random",
        source=clips,
    )


_WANTED = {
    "audio-visual": "videos with sound, or evaluate one modality alone (--modality)",
    "video": "videos",
    "audio": "sounds",
}


def _unusable(config: RunConfig, task: Task, left_out: Mapping[str, int]) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    return (
        f"{config.data.corpus}: no clip can be used ({reasons or 'it is empty'}); scan a folder of "
        f"{_WANTED[task]}"
    )


def open_source(
    config: RunConfig, both: Instances, once: bool, progress: Progress | None = None
) -> Source:
    """Where the clips of these instances, of both splits, come from."""
    cache = config.data.cache
    if config.pictures.cells:
        # All pairs of a corpus lie in one file.
        pairs = read_pairs(Path(both.path[0]))
        return PairSource(pairs, config.pictures.cells, choose_device(config.device))
    beside = f"{config.data.corpus}.cache" if cache == "disk" else ""
    folder = config.data.cache_folder or beside
    if cache == "none" or (once and not folder):
        return Files()
    order = Order(
        instances=both,
        video=config.video,
        audio=config.audio,
        limits=clip_settings(config).limits,
        workers=worker_count(config),
        copies=place().local_size,
        progress=progress,
    )
    decoded = cache_on_disk(order, Path(folder)) if folder else cache_in_memory(order)
    return DeviceCache(decoded, choose_device(config.device)) if cache == "device" else decoded


def _learnable(
    config: RunConfig, train: Instances, target: Target | None
) -> tuple[Instances, dict[str, int]]:
    """The training instances that the target's labels and ``data.share`` leave, and what not."""
    left_out: dict[str, int] = {}
    if target is not None:
        train, without = labelled(train, target)
        left_out[f"without {target.label}"] = without
    if config.data.share < 1:
        label = None if target is None else target.label
        shared = take_share(train, label, config.data.share, config.seed)
        left_out["beyond data.share"] = len(train) - len(shared)
        train = shared
    return train, left_out


def _check_files(config: RunConfig, train: Instances, corpus: Corpus) -> None:
    """A sample of the files must be as scanned; single ones that are gone, the loop replaces."""
    step = max(1, len(train) // _CHECKED_FILES)
    sample = train.take(np.arange(0, len(train), step))
    gone, most = missing_files(sample), config.data.max_failures * len(sample)
    again = f"scan again into {config.data.corpus} (what has not changed is not read again)"
    if len(gone) > most and corpus.prepared is not None:
        # They have no place among the shards: within the folder, they are named as their sources.
        source = gone[0].removeprefix(f"{next(iter(corpus.roots.values()))}/")
        raise ValueError(
            f"{len(gone)} of {len(sample)} clips could not be prepared, such as that of {source}; "
            "mend or remove these files, scan and prepare again, or raise data.max_failures"
        )
    if len(gone) > most:
        raise ValueError(
            f"{len(gone)} of {len(sample)} files are gone since the scan, such as {gone[0]}; "
            f"{again}"
        )
    # Pairs of pictures are all in one file, which says itself whether it is whole.
    changed = [] if corpus.cells else changed_files(sample)
    if len(gone) + len(changed) > most:
        raise ValueError(
            f"{len(changed)} of {len(sample)} files have changed since the scan, such as "
            f"{changed[0]}; {again}"
        )


def build_model(config: RunConfig, device: torch.device) -> Pair:
    """Encoders and heads at their random initialisation, which the seed decides."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build_pair(config)
    return model.to(device)


def build_method(config: RunConfig, size: int, device: torch.device) -> Method:
    """The method with its state for ``size`` rows."""
    method = METHODS.build(config.method, size=size, dim=config.head.dim, seed=config.seed)
    assert isinstance(method, Method)
    return method.to(device)


def build_parts(
    config: RunConfig, inputs: Inputs, size: int, device: torch.device, ranks: Ranks = ALONE
) -> Parts:
    """Everything that is trained or saved, before the first step.

    Raises:
        ValueError: the method needs more rows, or nothing compiles here.
    """
    model, method = build_model(config, device), build_method(config, size, device)
    method.check_rows()
    method.attach(model)
    if config.train.compile != "none":
        require_compiler(device)
    encoders_compiled = config.train.compile in ("encoders", "all")
    return Parts(
        model=model,
        wrapped=ranks.wrap(Compiled(model) if encoders_compiled else model, device),
        method=method,
        inputs=inputs.to(device),
        optimizer=make_optimizer(config, model, device),
    )


def clip_settings(config: RunConfig, task: Task | None = None) -> ClipSettings:
    """What a clip is in this run, for what its method needs or for another task."""
    return ClipSettings(
        video=config.video,
        audio=config.audio,
        data=config.data,
        seed=config.seed,
        modalities=modalities_of(task or task_of(config)),
    )


def modalities_of(task: Task) -> tuple[str, ...]:
    """The modalities that a task reads."""
    return MODALITIES if task == "audio-visual" else (task,)


def statistics_rows(train: Instances, seed: int) -> NDArray[np.int64]:
    """The rows that statistics are taken over: a fixed sample of those with sound."""
    sounding = np.flatnonzero(train.has_audio).astype(np.int64)
    # Rounded up: what is left out is spread over the whole corpus, which has an order.
    step = max(1, -(-len(sounding) // STATISTICS_CLIPS))
    return sounding[seed % step :: step]


def fit_inputs(config: RunConfig, data: Data, workers: int) -> Inputs:
    """Inputs with the mean and deviation per frequency of a sample of the training instances.

    Where a method of pictures alone learns from films without sound, there are no statistics, nor
    are there of pairs of pictures.

    Raises:
        ValueError: no instance has sound.
    """
    silent = task_of(config) == "video" and not data.train.has_audio.any()
    if silent or config.pictures.cells:
        return blank_inputs(config)
    rows = statistics_rows(data.train, config.seed)
    # One frame, for that is how long a clip is then: it may begin anywhere.
    settings = replace(clip_settings(config, "audio"), video=replace(config.video, frames=1))
    clips = EvaluationClips(
        data.train, settings, rows=rows, batch=_STATISTICS_BATCH, clips=1, source=data.source
    )
    spectrogram = Spectrogram(config.audio)
    statistics = Statistics(config.audio.bands)
    for batch in load(clips, range(len(clips)), config.data, workers=workers):
        if len(batch):
            statistics.update(spectrogram(batch.views[0]["audio"].cpu()))
    mean, std = statistics.finish()
    return Inputs(config.video, config.audio, mean=mean, std=std, clips=statistics.clips)


def blank_inputs(config: RunConfig) -> Inputs:
    """Inputs whose statistics a saved state will bring."""
    bands = config.audio.bands
    mean, std = torch.zeros(bands), torch.ones(bands)
    return Inputs(config.video, config.audio, mean=mean, std=std, clips=0, pictures=config.pictures)
