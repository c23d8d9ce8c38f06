"""From a view as it was read to what the encoders take, and the settings to do so elsewhere."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self, TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from earsight.config import AudioConfig, ConfigError, PicturesConfig, VideoConfig
from earsight.transforms.audio import Normalise, Spectrogram, augment_audio, stretch_seconds
from earsight.transforms.draws import Index
from earsight.transforms.pictures import lay_out
from earsight.transforms.video import augment, normalise
from earsight.transforms.video_fused import IMAGENET_MEAN, IMAGENET_STD

SectionT = TypeVar("SectionT", VideoConfig, AudioConfig, PicturesConfig)

SCHEMA = 1
"""Version of :meth:`Inputs.state`."""


class Inputs(nn.Module):
    """Turns views into network inputs; holds all that this takes.

    Attributes:
        video: settings of the pictures.
        audio: settings of the sound.
        pictures: settings of pairs of pictures, where the run learns from these.
        clips: clips that the statistics were computed from.
        memory_format: in which pictures are given out; by default as they came.
    """

    def __init__(
        self,
        video: VideoConfig,
        audio: AudioConfig,
        *,
        mean: Tensor,
        std: Tensor,
        clips: int,
        pictures: PicturesConfig | None = None,
        memory_format: torch.memory_format = torch.preserve_format,
    ) -> None:
        """Keep the settings, and the statistics as buffers.

        Args:
            video: settings of the pictures.
            audio: settings of the sound.
            mean: ``(bands,)``, mean level per frequency in decibel.
            std: ``(bands,)``, its deviation.
            clips: clips that these were computed from.
            pictures: settings of pairs of pictures; None for films and sounds.
            memory_format: in which pictures are given out; by default as they came.

        Raises:
            ValueError: the statistics do not fit the settings.
        """
        super().__init__()
        if mean.shape != (audio.bands,):
            raise ValueError(
                f"audio statistics: are of shape {tuple(mean.shape)}, but audio.bands is "
                f"{audio.bands}; compute them with these settings"
            )
        self.video, self.audio, self.clips = video, audio, clips
        self.pictures = PicturesConfig() if pictures is None else pictures
        self.memory_format = memory_format
        self.spectrogram = Spectrogram(audio)
        self.normalise = Normalise(mean, std)

    def prepare(
        self,
        view: Mapping[str, Tensor],
        *,
        training: bool,
        seed: int = 0,
        index: Index | None = None,
        view_number: int = 0,
        fused: bool = False,
    ) -> dict[str, Tensor]:
        """Prepare one view of a batch.

        In training, colours, loudness and duration are changed, by draws that depend on the
        seed, each clip's index and the view's number; ``audio`` must then reach as far as
        :func:`stretch_seconds` of these says.

        Args:
            view: ``video (B, 3, T, H, W)`` uint8 and ``audio (B, samples)`` float, or one of
                them; other modalities are passed on as they are. In runs on pairs of pictures, both
                are the characters of a picture, ``(B, cells, 32, 32)`` uint8.
            training: whether to change the clips.
            seed: the run's seed.
            index: ``(B,)`` global sample indices; needed in training.
            view_number: the view's place in its batch.
            fused: change colours by compiled code, equal but for rounding; needs a compiler.

        Returns:
            ``video (B, 3, T, H, W)`` and ``audio (B, 1, frames, bands)``, float32, and the rest; of
            a pair of pictures, each as ``(B, 1, H, W)``.

        Raises:
            ValueError: an input of another type or shape, sound that is too short, or training
                without indices.
        """
        if training and index is None:
            raise ValueError("index: training needs one sample index per clip")
        prepared = dict(view)
        drawn = index if training else None
        if self.pictures.cells:
            return {
                name: lay_out(x, self.pictures, name, seed=seed, index=drawn, view=view_number)
                for name, x in view.items()
            }
        if "video" in view:
            prepared["video"] = self._pictures(view["video"], seed, drawn, view_number, fused)
        if "audio" in view:
            prepared["audio"] = self._sound(view["audio"], seed, drawn, view_number)
        return prepared

    def _pictures(
        self, video: Tensor, seed: int, index: Index | None, number: int, fused: bool
    ) -> Tensor:
        form = self.memory_format
        if index is None:
            return normalise(video, memory_format=form)
        return augment(
            video,
            self.video,
            seed=seed,
            index=index,
            view=number,
            memory_format=form,
            fused=fused,
        )

    def _sound(self, wave: Tensor, seed: int, index: Index | None, number: int) -> Tensor:
        seconds = None
        if index is not None:
            wave = augment_audio(wave, self.audio, seed=seed, index=index, view=number)
            drawn = stretch_seconds(self.audio, seed=seed, index=index, view=number)
            seconds = torch.from_numpy(drawn)
        levels: Tensor = self.normalise(self.spectrogram(wave, seconds))
        return levels

    def state(self) -> dict[str, Any]:
        """All that is needed to prepare inputs elsewhere.

        Returns:
            ``settings``, plain data fit for JSON (with the pictures' mean and deviation, for
            readers of other software), and ``tensors``, ``audio_mean`` and ``audio_std``
            ``(bands,)`` on the CPU.
        """
        settings = {
            "schema": SCHEMA,
            "video": _plain(self.video),
            "audio": _plain(self.audio),
            "video_mean": list(IMAGENET_MEAN),
            "video_std": list(IMAGENET_STD),
            "audio_statistics_clips": self.clips,
        }
        if self.pictures.cells:
            settings["pictures"] = _plain(self.pictures)
        tensors = {
            "audio_mean": self.normalise.mean.detach().cpu().clone(),
            "audio_std": self.normalise.std.detach().cpu().clone(),
        }
        return {"settings": settings, "tensors": tensors}

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Any],
        *,
        memory_format: torch.memory_format = torch.preserve_format,
    ) -> Self:
        """Build from what :meth:`state` gave, also after a passage through JSON.

        Raises:
            ConfigError: settings that cannot be used, each named.
            ValueError: another schema, or pictures normalised otherwise.
        """
        settings, tensors = state["settings"], state["tensors"]
        if settings["schema"] != SCHEMA:
            raise ValueError(
                f"input settings: have schema {settings['schema']}, but this version reads "
                f"{SCHEMA}; use the version that wrote them"
            )
        scaling = (tuple(settings["video_mean"]), tuple(settings["video_std"]))
        if scaling != (IMAGENET_MEAN, IMAGENET_STD):
            raise ValueError(
                f"input settings: pictures were normalised with mean and deviation {scaling}; "
                f"only {(IMAGENET_MEAN, IMAGENET_STD)} is supported"
            )
        return cls(
            _section(VideoConfig, "video", settings["video"]),
            _section(AudioConfig, "audio", settings["audio"]),
            mean=tensors["audio_mean"],
            std=tensors["audio_std"],
            clips=int(settings["audio_statistics_clips"]),
            pictures=_section(PicturesConfig, "pictures", settings.get("pictures", {})),
            memory_format=memory_format,
        )


def _plain(config: Any) -> dict[str, Any]:
    tree = dataclasses.asdict(config)
    return {name: list(x) if isinstance(x, tuple) else x for name, x in tree.items()}


def _section(cls: type[SectionT], path: str, tree: Mapping[str, Any]) -> SectionT:
    try:
        config = cls(**tree)
    except ValidationError as error:
        named = ((".".join(map(str, item["loc"])), item["msg"]) for item in error.errors())
        raise ConfigError(f"{path}.{where}: {message}" for where, message in named) from error
    if faults := [f"{path}.{fault}" for fault in config.faults()]:
        raise ConfigError(faults)
    return config
