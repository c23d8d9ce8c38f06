"""The sections of a configuration: what can be set, its default, and what is wrong with a value."""

from collections.abc import Iterator
from dataclasses import field, fields
from typing import Any, Literal

from earsight.config.mel import all_bands_heard
from earsight.config.registry import section

Fraction = float
Range = tuple[float, float]

_CROP_AREA = (0.08, 1.0)
_CROP_RATIO = (3 / 4, 4 / 3)


@section
class DataConfig:
    """Which clips are read, and by whom.

    Attributes:
        corpus: the manifest that `earsight scan` wrote.
        workers: processes that decode, for each that trains; 0 decodes in the training process,
            ``auto`` is one per thread.
        prefetch: batches kept ready per worker.
        audio_missing: what becomes of instances without sound: left out (``skip``), given silence
            (``silence``), or refused (``error``).
        holdout: share of the groups held out for evaluation where the labels name no split.
        fold: 0 for the split that the labels name; k for the k-th official split: held out are the
            instances whose label ``fold`` is k, or the label ``split<k>`` says which.
        keep_duplicates: use exact copies too.
        max_failures: share of unreadable draws above which a run stops.
        max_pixels: largest width × height of a picture that is decoded.
        timeout: seconds that one clip may take to decode.
        block: neighbours read together (1 for loose files).
        pairs: ``true``, or ``shuffled``: sound of another clip at random, anew in every epoch (a
            control from which nothing across modalities can be learned).
        cache: decode each clip once and keep it: in ``memory`` that all processes share, on
            ``disk``, or on the ``device`` (which also resizes there); ``none`` decodes anew.
        cache_folder: where the cache on disk lies; empty for a folder beside the manifest. With
            ``device``, clips come from such a cache, which runs share, and are not decoded again.
        share: share of the training instances that are used, of each class alike where the method
            learns from labels; smaller shares lie within larger ones.
    """

    corpus: str = ""
    workers: int | Literal["auto"] = "auto"
    prefetch: int = 2
    audio_missing: Literal["skip", "silence", "error"] = "skip"
    holdout: Fraction = 0.1
    fold: int = 0
    keep_duplicates: bool = False
    max_failures: Fraction = 0.01
    max_pixels: int = 8192 * 8192
    timeout: float = 30.0
    block: int = 1
    pairs: Literal["true", "shuffled"] = "true"
    cache: Literal["none", "memory", "disk", "device"] = "none"
    cache_folder: str = ""
    share: Fraction = 1.0

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from _at_least(self, prefetch=1, max_pixels=1, block=1, fold=0)
        if self.workers != "auto" and self.workers < 0:
            yield "workers: must be 0 or more, or auto"
        yield from _within(self, 0, 1, "holdout", "max_failures")
        if self.timeout <= 0:
            yield "timeout: must be positive seconds"
        if self.cache_folder and self.cache not in ("disk", "device"):
            yield "cache_folder: has no effect unless cache is disk or device"
        if not 0 < self.share <= 1:
            yield "share: must lie between 0 and 1, above 0"


@section
class VideoConfig:
    """Pictures: what is cut from a file, and how a clip is changed in training.

    Attributes:
        frames: frames per clip.
        fps: frames per second.
        size: side of the square picture in pixels.
        crop_area: range of the share of the area kept by a random crop.
        crop_ratio: range of the crop's width over height.
        short_side: pixels that the picture's short side is resized to, for a square of ``size`` to
            be cut from it at random; 0 for crops by ``crop_area`` and ``crop_ratio``.
        jitter: largest distance in seconds of a view's start from the one drawn for its sample;
            none draws the start of each view anew, from the whole instance.
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
    crop_area: Range = _CROP_AREA
    crop_ratio: Range = _CROP_RATIO
    short_side: int = 0
    jitter: float | None = None
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

    @property
    def recoloured(self) -> bool:
        """Whether colours are changed in training."""
        light = self.brightness or self.contrast
        return bool(light or self.saturation or self.hue or self.grayscale)

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
        if self.jitter is not None and self.jitter < 0:
            yield "jitter: must be 0 or more seconds, or null for starts anywhere"
        yield from self._short_side_faults()

    def _short_side_faults(self) -> Iterator[str]:
        if not self.short_side:
            return
        if self.short_side < self.size:
            yield f"short_side: must be at least size ({self.size}), or 0"
        for name, default in (("crop_area", _CROP_AREA), ("crop_ratio", _CROP_RATIO)):
            if getattr(self, name) != default:
                yield f"{name}: has no effect where short_side is set; leave it out"


@section
class AudioConfig:
    """Sound: what is cut from a file, its spectrogram, and how a clip is changed in training.

    Attributes:
        rate: samples per second.
        duration: seconds per clip.
        spectrogram: levels in decibel, of the bins of the transform (``stft``) or of mel bands
            (``mel``, Slaney's).
        n_fft: length of the transform in samples.
        window: length of the Hann window in samples.
        hop: seconds between frames.
        bands: frequency bands; for ``stft``, every bin or the first and the mean of each further
            pair; for ``mel``, as many as have a bin each.
        padding: what stands before the first sample and after the last: the sound mirrored
            (``reflect``) or silence (``zeros``).
        precision: of the transform. In ``float32``, bins far below the loudest are off by
            thousandths of a decibel; ``float64`` takes two to three times as long.
        top_db: decibels below a clip's loudest value at which its levels end; none for no limit.
        volume: range of the factor of loudness.
        jitter: largest distance in seconds between the starts of sound and picture.
        stretch: range of seconds that are rescaled to ``duration``; equal ends mean none.
    """

    rate: int = 24000
    duration: float = 2.0
    spectrogram: Literal["stft", "mel"] = "stft"
    n_fft: int = 512
    window: int = 480
    hop: float = 0.02
    bands: int = 129
    padding: Literal["reflect", "zeros"] = "reflect"
    precision: Literal["float32", "float64"] = "float32"
    top_db: float | None = None
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
        if self.top_db is not None and self.top_db <= 0:
            yield "top_db: must be positive decibels, or null for no limit"
        if self.hop > 0 and self._frames_missing():
            yield f"hop: {self.hop_samples} samples do not give {self.frames} frames; shorten it"
        yield from self._band_faults()

    def _band_faults(self) -> Iterator[str]:
        if self.spectrogram == "mel":
            possible = min(self.rate, self.n_fft, self.bands) > 0
            if possible and not all_bands_heard(self.rate, self.bands, self.n_fft):
                yield (
                    f"bands: some of {self.bands} mel bands lie between the bins of "
                    f"n_fft={self.n_fft}; take fewer, or a longer n_fft"
                )
            return
        if self.n_fft % 4:
            yield "n_fft: must be a multiple of 4"
        full = self.n_fft // 2 + 1
        if self.bands not in (full, self.n_fft // 4 + 1):
            yield (
                f"bands: must be {full} (every bin of n_fft={self.n_fft}) or "
                f"{self.n_fft // 4 + 1} (the first, then pairs averaged)"
            )


@section
class PicturesConfig:
    """Pairs of pictures in the place of films: the first stands for ``video``, the other for sound.

    Attributes:
        cells: characters that each picture shows, of as many alphabets; 0 where the corpus is of
            films and sounds.
        shift: in training each character is moved by up to so many pixels, across and down;
        turn: turned by up to so many degrees,
        scale: and its size multiplied by a factor from this range.
    """

    cells: int = 0
    shift: float = 3.0
    turn: float = 10.0
    scale: Range = (0.85, 1.15)

    @property
    def changed(self) -> bool:
        """Whether characters are changed in training."""
        return bool(self.shift or self.turn or self.scale != (1.0, 1.0))

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from _at_least(self, cells=0, shift=0, turn=0)
        yield from _ordered(self, "scale")
        if not self.cells:
            yield from _no_effect(self, "has no effect unless pictures.cells is set")


@section
class HeadConfig:
    """The projection from encoder features to the embedding.

    Attributes:
        hidden: widths of the hidden layers.
        dim: size of the embedding.
        norm: batch norm after each layer (helps small networks off the plateau at the start).
        fcl: one more linear layer at the end, without bias, which momentum encoders exchange.
    """

    hidden: tuple[int, ...] = (512, 512)
    dim: int = 128
    norm: bool = False
    fcl: bool = False

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
        batch: clips per optimiser step, over all processes.
        accumulate: micro-batches that a batch is split into.
        epochs: passes over ``epoch_samples`` draws.
        epoch_samples: draws per epoch; 0 for one of every instance.
        precision: ``float32``, ``bfloat16``, or ``auto`` (bfloat16 where the device gains by it).
        compile: what is compiled for training, which needs a C++ compiler, on a GPU Triton too:
            ``none``; ``inputs``, the changes of colour, in seconds; ``encoders``, which takes
            minutes before the first step and has not paid on a processor; or ``all``.
        log_every: steps between reads of the metrics.
        checkpoint_every: steps between checkpoints; 0 for once an epoch.
        keep_last: checkpoints kept besides the named ones.
        keep: epochs whose checkpoints are kept for good.
        rank_timeout: seconds after which a run of several processes gives up one that has not
            arrived where the others wait.
    """

    batch: int = 256
    accumulate: int = 1
    epochs: int = 100
    epoch_samples: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["none", "inputs", "encoders", "all"] = "none"
    log_every: int = 10
    checkpoint_every: int = 0
    keep_last: int = 2
    keep: tuple[int, ...] = ()
    rank_timeout: float = 300.0

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
        if self.rank_timeout <= 0:
            yield "rank_timeout: must be positive seconds"
        if self.batch % self.accumulate:
            yield f"accumulate: must divide the batch ({self.batch})"
        if any(not 1 <= epoch <= self.epochs for epoch in self.keep):
            yield f"keep: epochs lie between 1 and {self.epochs}"


@section
class EvaluationConfig:
    """Evidence while training, on held-out clips.

    Attributes:
        every: epochs between evaluations; 0 for only after the last.
        tasks: what is measured; ``knn`` and ``probe`` need labels, and read the training split;
            ``classify`` is a supervised run's own classifier.
        gallery: held-out clips ranked by retrieval.
        clips: evenly spaced clips per instance whose features are averaged.
        labels: label columns to classify by; empty for all that both splits can be scored by.
        probe_samples: most training instances whose features the probes are fitted on.
        blocks: features that `earsight evaluate probe` classifies, ``pooled`` and blocks by
            number; while training, always the pooled ones alone.
        svm_layer: features of single clips that `earsight evaluate svm` classifies: the last
            activation before pooling, ``flat``, or ``pooled``.
        svm_clips: clips of each training instance that it is fitted on.
        positives: most similar clips that `earsight evaluate agreement` looks at.
        negatives: most training clips that `earsight evaluate negatives` encodes.
    """

    every: int = 0
    tasks: tuple[Literal["retrieve", "geometry", "knn", "probe", "classify"], ...] = (
        "retrieve",
        "geometry",
        "knn",
        "probe",
        "classify",
    )
    gallery: int = 200
    clips: int = 1
    labels: tuple[str, ...] = ()
    probe_samples: int = 2000
    blocks: tuple[Literal["pooled", 1, 2, 3, 4], ...] = ("pooled", 1, 2, 3, 4)
    svm_layer: Literal["flat", "pooled"] = "flat"
    svm_clips: int = 10
    positives: int = 32
    negatives: int = 2000

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from _at_least(
            self,
            every=0,
            gallery=2,
            clips=1,
            probe_samples=2,
            svm_clips=1,
            positives=1,
            negatives=24,
        )
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            yield "tasks: name at least one, and each once"
        if not self.blocks or len(set(self.blocks)) < len(self.blocks):
            yield "blocks: name at least one, and each once"


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
        threads: for torch, decoder and workers together, in each training process; 0 for every
            core, divided among the processes of a machine.
        start: folder of a run whose encoders (and heads, if they are alike) are started from,
            absolute or relative to this run's folder; empty for a random initialisation. Where
            the method keeps a memory, that is taken over too.
        start_epoch: after which of that run's epochs, one whose checkpoint it keeps; 0 for its end.
        plugins: modules imported first, which may register methods and encoders of their own.
    """

    method: Any
    video_encoder: Any
    audio_encoder: Any
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    start: str = ""
    start_epoch: int = 0
    plugins: tuple[str, ...] = ()
    data: DataConfig = field(default_factory=DataConfig)
    video: VideoConfig = field(default_factory=VideoConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    pictures: PicturesConfig = field(default_factory=PicturesConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from _at_least(self, seed=0, threads=0, start_epoch=0)
        if self.start_epoch and not self.start:
            yield "start_epoch: has no effect unless start names a run"
        bands = getattr(self.audio_encoder, "bands", self.audio.bands)
        if bands != self.audio.bands:
            yield f"audio_encoder.bands: must be {self.audio.bands}, those of audio.bands"
        if self.train.compile == "inputs" and not self.video.recoloured:
            yield "train.compile: inputs has no effect where no colours are changed; set none"
        if self.data.pairs == "shuffled" and hasattr(self.method, "modality"):
            yield f"data.pairs: has no effect on {self.method.name}, which knows one modality"
        yield from self._picture_faults()

    def _picture_faults(self) -> Iterator[str]:
        """Settings that do not go with pictures, or that go with nothing else."""
        for name in ("video_encoder", "audio_encoder"):
            encoder = getattr(self, name)
            takes = bool(getattr(encoder, "pictures", False))
            if takes and not self.pictures.cells:
                yield f"{name}.name: {encoder.name} takes pairs of pictures; set pictures.cells"
            if self.pictures.cells and not takes:
                yield f"{name}.name: {encoder.name} takes no pictures; take conv2d-picture"
        if not self.pictures.cells:
            return
        for part in ("video", "audio"):
            faults = _no_effect(getattr(self, part), "has no effect on pairs of pictures")
            yield from (f"{part}.{fault}; leave it out" for fault in faults)
        for name in ("cache", "audio_missing", "keep_duplicates"):
            if getattr(self.data, name) != getattr(DataConfig(), name):
                yield f"data.{name}: has no effect on pairs of pictures; leave it out"
        if self.train.compile == "inputs":
            yield "train.compile: inputs has no effect on pairs of pictures; set none"


def _no_effect(config: Any, why: str) -> Iterator[str]:
    """Every setting of a section that is not at its default."""
    usual = type(config)()
    for one in fields(config):
        if getattr(config, one.name) != getattr(usual, one.name):
            yield f"{one.name}: {why}"


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
