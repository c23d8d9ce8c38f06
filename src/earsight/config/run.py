"""Settings of a run: all sections together, and what of them does not go together."""

from collections.abc import Iterator
from dataclasses import field
from typing import Any

from earsight.config.checks import at_least, no_effect
from earsight.config.data import DataConfig
from earsight.config.evaluation import EvaluationConfig
from earsight.config.inputs import AudioConfig, PicturesConfig, VideoConfig
from earsight.config.learning import HeadConfig, OptimizerConfig, TrainConfig
from earsight.config.registry import section

_MOST = 2**63 - 1
"""The largest seed: what a signed number of 64 bits holds."""


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
        yield from at_least(self, seed=0, threads=0, start_epoch=0)
        if self.seed > _MOST:
            yield f"seed: must be at most {_MOST}"
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
        idle = {"video": (), "audio": (), "data": ("cache", "audio_missing", "keep_duplicates")}
        for part, names in idle.items():
            why = "has no effect on pairs of pictures; leave it out"
            faults = no_effect(getattr(self, part), why, *names)
            yield from (f"{part}.{fault}" for fault in faults)
        if self.train.compile == "inputs":
            yield "train.compile: inputs has no effect on pairs of pictures; set none"
