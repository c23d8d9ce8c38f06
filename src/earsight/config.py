"""Settings: keyword-only dataclasses, read strictly, every fault reported at once with its path.

A setting is checked by its type and by its section's ``faults()``. Sections that depend on a
choice (the method, the encoders) are registered under a name, so that a new one brings its own
settings: ``method: {name: avid, negatives: 1024}``.
"""

import dataclasses
import difflib
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast, dataclass_transform

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

SCHEMA = 1
"""Version of the configuration file."""

Tree = dict[str, Any]
Built = TypeVar("Built")
Section = TypeVar("Section")


class ConfigError(ValueError):
    """Settings that cannot be used; ``faults`` names every one, with its path and remedy."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = list(faults)
        many = len(self.faults) > 1
        head = f"{len(self.faults)} settings cannot be used:\n" if many else ""
        super().__init__(head + "\n".join(f"  {f}" if many else f for f in self.faults))


class Registry(Generic[Built]):
    """Choices by name, each with the dataclass of its settings and a function that builds it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, tuple[type[Any], Callable[..., Built]]] = {}

    def register(
        self, name: str, settings: type[Any]
    ) -> Callable[[Callable[..., Built]], Callable[..., Built]]:
        """Decorator: make ``build(settings, …)`` available under ``name``."""

        def decorate(build: Callable[..., Built]) -> Callable[..., Built]:
            known = self._entries.get(name)
            if known is not None and known[1].__qualname__ != build.__qualname__:
                raise ValueError(f"a {self.kind} named {name!r} is registered already")
            self._entries[name] = (settings, build)
            return build

        return decorate

    def names(self) -> list[str]:
        """The registered names, sorted."""
        return sorted(self._entries)

    def settings_of(self, name: str) -> type[Any]:
        """The settings class of a choice."""
        return self._entries[name][0]

    def build(self, settings: Any, *args: Any, **kwargs: Any) -> Built:
        """Build what ``settings`` (an instance with a ``name``) describes."""
        return self._entries[settings.name][1](settings, *args, **kwargs)


METHODS: Registry[Any] = Registry("method")
VIDEO_ENCODERS: Registry[Any] = Registry("video encoder")
AUDIO_ENCODERS: Registry[Any] = Registry("audio encoder")

_STRICT = ConfigDict(extra="forbid")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def section(cls: type[Section]) -> type[Section]:
    """Decorator: a keyword-only frozen dataclass whose types are checked and extras refused."""
    made: Any = checked(config=_STRICT, kw_only=True, frozen=True)(cls)
    return cast(type[Section], made)


Fraction = float
Range = tuple[float, float]


@section
class DataConfig:
    """Which clips are read, and by whom.

    Attributes:
        corpus: the manifest that `earsight scan` wrote.
        workers: processes that decode; 0 decodes in the training process, ``auto`` is one per
            thread.
        prefetch: batches kept ready per worker.
        audio_missing: what becomes of instances without sound: left out (``skip``), given silence
            (``silence``), or refused (``error``).
        holdout: share of the groups held out for evaluation where the labels name no split.
        keep_duplicates: use exact copies too.
        max_failures: share of unreadable draws above which a run stops.
        max_pixels: largest width × height of a picture that is decoded.
        timeout: seconds that one clip may take to decode.
        block: neighbours read together (1 for loose files).
    """

    corpus: str = ""
    workers: int | Literal["auto"] = "auto"
    prefetch: int = 2
    audio_missing: Literal["skip", "silence", "error"] = "skip"
    holdout: Fraction = 0.1
    keep_duplicates: bool = False
    max_failures: Fraction = 0.01
    max_pixels: int = 8192 * 8192
    timeout: float = 30.0
    block: int = 1

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from _at_least(self, prefetch=1, max_pixels=1, block=1)
        if self.workers != "auto" and self.workers < 0:
            yield "workers: must be 0 or more, or auto"
        yield from _within(self, 0, 1, "holdout", "max_failures")
        if self.timeout <= 0:
            yield "timeout: must be positive seconds"


@section
class VideoConfig:
    """Pictures: what is cut from a file, and how a clip is changed in training.

    Attributes:
        frames: frames per clip.
        fps: frames per second.
        size: side of the square picture in pixels.
        crop_area: range of the share of the area kept by a random crop.
        crop_ratio: range of the crop's width over height.
        flip: probability of mirroring.
        brightness: strength of the change, a factor from 1 − x to 1 + x.
        contrast: likewise.
        saturation: likewise.
        hue: largest shift of hue, as a share of the full circle.
        grayscale: probability of a gray clip.
    """

    frames: int = 16
    fps: float = 16.0
    size: int = 112
    crop_area: Range = (0.08, 1.0)
    crop_ratio: Range = (3 / 4, 4 / 3)
    flip: Fraction = 0.5
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.2
    grayscale: Fraction = 0.0

    @property
    def duration(self) -> float:
        """Seconds that a clip covers."""
        return self.frames / self.fps

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from _at_least(self, frames=1, size=8)
        yield from _within(self, 0, 1, "flip", "grayscale", "brightness", "contrast", "saturation")
        yield from _within(self, 0, 0.5, "hue")
        yield from _ordered(self, "crop_area", "crop_ratio")
        if self.fps <= 0:
            yield "fps: must be positive frames per second"
        if not 0 < self.crop_area[1] <= 1:
            yield "crop_area: shares of the area lie between 0 and 1"


@section
class AudioConfig:
    """Sound: what is cut from a file, its spectrogram, and how a clip is changed in training.

    Attributes:
        rate: samples per second.
        duration: seconds per clip.
        spectrogram: ``stft`` (power bands in decibel) or ``mel`` (log mel).
        n_fft: length of the transform in samples.
        window: length of the Hann window in samples.
        hop: seconds between frames.
        bands: frequency bands kept.
        volume: range of the factor of loudness.
        jitter: largest distance in seconds between the starts of sound and picture.
        stretch: range of seconds that are rescaled to ``duration``; equal ends mean none.
    """

    rate: int = 24000
    duration: float = 2.0
    spectrogram: Literal["stft"] = "stft"
    n_fft: int = 512
    window: int = 480
    hop: float = 0.02
    bands: int = 129
    volume: Range = (0.9, 1.1)
    jitter: float = 0.5
    stretch: Range = (1.4, 2.8)

    @property
    def frames(self) -> int:
        """Spectrogram frames per clip."""
        return round(self.duration / self.hop)

    @property
    def hop_samples(self) -> int:
        """Samples between frames."""
        return round(self.hop * self.rate)

    def _frames_missing(self) -> bool:
        samples = round(self.duration * self.rate)
        return samples // max(1, self.hop_samples) + 1 < self.frames

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from _at_least(self, rate=1000, n_fft=16, window=8, bands=1)
        yield from _ordered(self, "volume", "stretch")
        for name in ("duration", "hop"):
            if getattr(self, name) <= 0:
                yield f"{name}: must be positive seconds"
        if self.jitter < 0:
            yield "jitter: must be 0 or more seconds"
        if self.window > self.n_fft:
            yield f"window: must not exceed n_fft ({self.n_fft})"
        if self.stretch[0] == self.stretch[1] != self.duration:
            yield f"stretch: equal ends mean none, and must then be the duration, {self.duration}"
        if self.n_fft % 4:
            yield "n_fft: must be a multiple of 4"
        if self.hop > 0 and self._frames_missing():
            yield f"hop: {self.hop_samples} samples do not give {self.frames} frames; shorten it"
        full = self.n_fft // 2 + 1
        if self.bands not in (full, self.n_fft // 4 + 1):
            yield (
                f"bands: must be {full} (every bin of n_fft={self.n_fft}) or "
                f"{self.n_fft // 4 + 1} (the first, then pairs averaged)"
            )


@section
class HeadConfig:
    """The projection from encoder features to the embedding.

    Attributes:
        hidden: widths of the hidden layers.
        dim: size of the embedding.
        norm: batch norm after each layer (helps small networks off the plateau at the start).
    """

    hidden: tuple[int, ...] = (512, 512)
    dim: int = 128
    norm: bool = False

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from _at_least(self, dim=2)
        if any(width < 1 for width in self.hidden):
            yield "hidden: widths must be 1 or more"


@section
class OptimizerConfig:
    """Adam with coupled weight decay, and its schedule.

    Attributes:
        lr: learning rate.
        weight_decay: coupled (added to the gradient).
        schedule: ``constant``, ``multistep`` or ``cosine`` (to zero at the last step).
        warmup_steps: steps over which the rate rises linearly from zero.
        milestones: epochs at which ``multistep`` multiplies the rate by ``gamma``.
        gamma: that factor.
        clip_norm: largest norm of the gradient; 0 for no limit.
    """

    lr: float = 1e-4
    weight_decay: float = 1e-5
    schedule: Literal["constant", "multistep", "cosine"] = "constant"
    warmup_steps: int = 0
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    clip_norm: float = 0.0

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from _at_least(self, warmup_steps=0, weight_decay=0, clip_norm=0)
        if self.lr <= 0:
            yield "lr: must be positive"
        if self.milestones and self.schedule != "multistep":
            yield "milestones: have no effect unless schedule is multistep"
        if self.gamma != 0.1 and self.schedule != "multistep":
            yield "gamma: has no effect unless schedule is multistep"
        if self.schedule == "multistep" and not self.milestones:
            yield "milestones: the multistep schedule needs at least one epoch"


@section
class TrainConfig:
    """The loop.

    Attributes:
        batch: clips per optimiser step.
        accumulate: micro-batches that a batch is split into.
        epochs: passes over ``epoch_samples`` draws.
        epoch_samples: draws per epoch; 0 for one of every instance.
        precision: ``float32``, ``bfloat16``, or ``auto`` (bfloat16 where the device gains by it).
        log_every: steps between reads of the metrics.
        checkpoint_every: steps between checkpoints; 0 for once an epoch.
        keep_last: checkpoints kept besides the named ones.
        keep: epochs whose checkpoints are kept for good.
    """

    batch: int = 256
    accumulate: int = 1
    epochs: int = 100
    epoch_samples: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    log_every: int = 10
    checkpoint_every: int = 0
    keep_last: int = 2
    keep: tuple[int, ...] = ()

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from _at_least(
            self,
            batch=1,
            accumulate=1,
            epochs=1,
            epoch_samples=0,
            log_every=1,
            checkpoint_every=0,
            keep_last=1,
        )
        if self.batch % self.accumulate:
            yield f"accumulate: must divide the batch ({self.batch})"
        if any(not 1 <= epoch <= self.epochs for epoch in self.keep):
            yield f"keep: epochs lie between 1 and {self.epochs}"


@section
class EvaluationConfig:
    """Evidence while training, on held-out clips.

    Attributes:
        every: epochs between evaluations; 0 for only after the last.
        gallery: held-out clips ranked by retrieval.
        clips: evenly spaced clips per instance whose features are averaged.
        labels: label columns to classify by; empty for every column of the corpus.
        probe_samples: most training instances whose features the probes are fitted on.
    """

    every: int = 0
    gallery: int = 200
    clips: int = 1
    labels: tuple[str, ...] = ()
    probe_samples: int = 2000

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from _at_least(self, every=0, gallery=2, clips=1, probe_samples=2)


@section
class LogConfig:
    """Where metrics go besides ``metrics.jsonl``."""

    tensorboard: bool = False
    wandb: bool = False
    trackio: bool = False


@section
class RunConfig:
    """Everything that decides a run.

    Attributes:
        seed: of every draw.
        device: ``auto`` takes CUDA, then MPS, then the CPU.
        threads: for torch, decoder and workers together; 0 for every core.
        plugins: modules imported first, which may register methods and encoders of their own.
    """

    method: Any
    video_encoder: Any
    audio_encoder: Any
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    plugins: tuple[str, ...] = ()
    data: DataConfig = field(default_factory=DataConfig)
    video: VideoConfig = field(default_factory=VideoConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from _at_least(self, seed=0, threads=0)


CHOICES = {
    "method": METHODS,
    "video_encoder": VIDEO_ENCODERS,
    "audio_encoder": AUDIO_ENCODERS,
}


def _at_least(config: Any, **bounds: float) -> Iterator[str]:
    for name, bound in bounds.items():
        if getattr(config, name) < bound:
            yield f"{name}: must be at least {bound}"


def _within(config: Any, low: float, high: float, *names: str) -> Iterator[str]:
    for name in names:
        if not low <= getattr(config, name) <= high:
            yield f"{name}: must lie between {low} and {high}"


def _ordered(config: Any, *names: str) -> Iterator[str]:
    for name in names:
        low, high = getattr(config, name)
        if not 0 < low <= high:
            yield f"{name}: must be two positive numbers, the smaller first"


def parse(tree: Mapping[str, Any]) -> RunConfig:
    """Check a tree of settings and build the configuration.

    Raises:
        ConfigError: names every fault, with its path and, for unknown settings, the nearest name.
    """
    tree = dict(tree)
    tree.pop("schema", None)
    faults: list[str] = []
    for name in tree.get("plugins") or ():
        try:
            importlib.import_module(str(name))
        except ImportError as error:
            faults.append(f"plugins: cannot import {name!r}: {error}")
    parts: Tree = {}
    for key, value in tree.items():
        part = _parse_part(key, value, faults)
        if part is not None:
            parts[key] = part
    for key, registry in CHOICES.items():
        if key not in tree:
            faults.append(f"{key}: is missing; one of {', '.join(registry.names())}")
    if faults:
        raise ConfigError(faults)
    config = RunConfig(**parts)
    if own := list(config.faults()):
        raise ConfigError(own)
    return config


def _parse_part(key: str, value: Any, faults: list[str]) -> Any:
    fields = {f.name: f for f in dataclasses.fields(RunConfig)}
    if key not in fields:
        faults.append(_unknown(key, fields))
        return None
    if key in CHOICES:
        return _parse_choice(key, value, faults)
    return _checked(key, fields[key].type, value, faults)


def _parse_choice(key: str, value: Any, faults: list[str]) -> Any:
    registry = CHOICES[key]
    name = value.get("name") if isinstance(value, Mapping) else None
    if name not in registry.names():
        near = difflib.get_close_matches(str(name), registry.names(), 1, 0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        names = ", ".join(registry.names())
        faults.append(f"{key}.name: {name!r} is not one of {names}{hint}")
        return None
    return _checked(key, registry.settings_of(name), value, faults)


def _checked(path: str, kind: Any, value: Any, faults: list[str]) -> Any:
    """``value`` as ``kind``, or None after its faults have been added."""
    try:
        made = TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        for item in error.errors():
            faults.append(_describe(path, kind, item))
        return None
    if hasattr(made, "faults"):
        own = [f"{path}.{fault}" for fault in made.faults()]
        faults.extend(own)
        return None if own else made
    return made


def _describe(path: str, kind: Any, item: Any) -> str:
    names = [str(part) for part in item["loc"]]
    where = ".".join([path, *names])
    if item["type"] == "unexpected_keyword_argument":
        return _unknown(where, {f.name: f for f in dataclasses.fields(kind)})
    message = item["msg"]
    return f"{where}: {message[:1].lower()}{message[1:]} (given {item['input']!r})"


def _unknown(path: str, known: Mapping[str, Any]) -> str:
    name = path.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(name, known, 1, 0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}"
    return f"{path}: no such setting; {hint}"


def as_tree(config: RunConfig) -> Tree:
    """The configuration as plain data, ready for YAML or JSON."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return value

    tree = plain(config)
    assert isinstance(tree, dict)
    return tree


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """``over`` laid over ``base``, section by section; another choice's name starts afresh."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if not isinstance(below, Mapping) or not isinstance(value, Mapping):
            merged[key] = value
        elif value.get("name", below.get("name")) != below.get("name"):
            merged[key] = dict(value)
        else:
            merged[key] = merge(below, value)
    return merged


def override(tree: Mapping[str, Any], settings: Iterable[str]) -> Tree:
    """Apply ``section.name=value`` settings (values are YAML) to a tree.

    Raises:
        ConfigError: names every setting that is not of this form.
    """
    faults, merged = [], dict(tree)
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            faults.append(f"{setting!r}: settings are written section.name=value")
            continue
        value = _scalar(yaml.safe_load(text))
        for name in reversed(path.split(".")):
            value = {name: value}
        merged = merge(merged, value)
    if faults:
        raise ConfigError(faults)
    return merged


def _scalar(value: Any) -> Any:
    """YAML 1.1 reads 1e-4 as text; a person means a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def read_yaml(path: Path) -> Tree:
    """A mapping read from a YAML file; keys given twice are refused.

    Raises:
        ConfigError: the file is missing, is no YAML, or holds no mapping.
    """
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except yaml.YAMLError as error:
        raise ConfigError([f"{path}: is not valid YAML: {error}"]) from error
    if not isinstance(tree, dict):
        raise ConfigError([f"{path}: must hold settings, such as 'seed: 1'"])
    return tree


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {twice[0]!r} is given twice")
        return super().construct_mapping(node, deep)


def yaml_text(config: RunConfig) -> str:
    """The resolved configuration as YAML."""
    tree = {"schema": SCHEMA, **as_tree(config)}
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def write_yaml(path: Path, config: RunConfig) -> None:
    """Write the resolved configuration."""
    path.write_text(yaml_text(config), encoding="utf-8")
