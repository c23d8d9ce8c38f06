import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from earsight.config import AudioConfig, ConfigError, VideoConfig
from earsight.transforms.audio import Spectrogram, augment_audio, stretch_seconds
from earsight.transforms.inputs import Inputs
from earsight.transforms.video import augment, normalise

VIDEO = VideoConfig(frames=4, size=8, brightness=0.3, contrast=0.3, saturation=0.0, hue=0.0)
AUDIO = AudioConfig(rate=4000, duration=0.5, n_fft=64, window=60, bands=17, stretch=(0.35, 0.7))
MEL = replace(AUDIO, spectrogram="mel", n_fft=120)
MEAN, STD = torch.linspace(-60, -20, 17), torch.linspace(5, 15, 17)
INDEX = np.array([7, 70, 700])


def inputs(audio: AudioConfig = AUDIO) -> Inputs:
    return Inputs(VIDEO, audio, mean=MEAN, std=STD, clips=12)


@pytest.fixture
def view(clips: Tensor) -> dict[str, Tensor]:
    rng = np.random.default_rng(0)
    wave = torch.from_numpy(rng.standard_normal((3, 2800)).astype(np.float32))
    return {"video": clips[:3], "audio": wave, "picture": torch.arange(3)}


def test_training(view: dict[str, Tensor], device: torch.device) -> None:
    there = {name: x.to(device) for name, x in view.items()}
    made = inputs().to(device).prepare(there, training=True, seed=4, index=INDEX, view_number=1)
    pictures = augment(view["video"], VIDEO, seed=4, index=INDEX, view=1)
    wave = augment_audio(view["audio"], AUDIO, seed=4, index=INDEX, view=1)
    seconds = torch.from_numpy(stretch_seconds(AUDIO, seed=4, index=INDEX, view=1))
    levels = (Spectrogram(AUDIO)(wave, seconds) - MEAN) / STD
    assert set(made) == {"video", "audio", "picture"}
    torch.testing.assert_close(made["video"].cpu(), pictures, atol=1e-5, rtol=0)
    torch.testing.assert_close(made["audio"].cpu(), levels, atol=1e-3, rtol=0)
    assert made["audio"].shape == (3, 1, 25, 17)
    assert made["picture"] is there["picture"]


def test_evaluation_draws_nothing(view: dict[str, Tensor]) -> None:
    made = inputs().prepare(view, training=False)
    assert torch.equal(made["video"], normalise(view["video"]))
    levels = (Spectrogram(AUDIO)(view["audio"][:, :2000]) - MEAN) / STD
    torch.testing.assert_close(made["audio"], levels)
    again = inputs().prepare(view, training=False, seed=9, index=INDEX, view_number=3)
    assert torch.equal(again["audio"], made["audio"])


def test_one_modality_alone(view: dict[str, Tensor]) -> None:
    made = inputs().prepare({"audio": view["audio"]}, training=False)
    assert set(made) == {"audio"}
    assert set(inputs().prepare({"video": view["video"]}, training=False)) == {"video"}


def test_a_clip_is_the_same_alone_and_in_a_batch(view: dict[str, Tensor]) -> None:
    made = inputs().prepare(view, training=True, seed=4, index=INDEX)
    for n in range(3):
        part = {name: x[n : n + 1] for name, x in view.items()}
        alone = inputs().prepare(part, training=True, seed=4, index=INDEX[n : n + 1])
        assert torch.equal(alone["video"][0], made["video"][n])
        assert torch.equal(alone["audio"][0], made["audio"][n])


def test_memory_format(view: dict[str, Tensor]) -> None:
    form = torch.channels_last_3d
    made = Inputs(VIDEO, AUDIO, mean=MEAN, std=STD, clips=1, memory_format=form)
    for training in (True, False):
        prepared = made.prepare(view, training=training, index=INDEX)
        assert prepared["video"].is_contiguous(memory_format=form)


@pytest.mark.parametrize("audio", [AUDIO, MEL], ids=["stft", "mel"])
def test_state_goes_through_json_and_back(view: dict[str, Tensor], audio: AudioConfig) -> None:
    state = inputs(audio).state()
    settings = json.loads(json.dumps(state["settings"]))
    assert set(state["tensors"]) == {"audio_mean", "audio_std"}
    back = Inputs.from_state({"settings": settings, "tensors": state["tensors"]})
    assert (back.video, back.audio, back.clips) == (VIDEO, audio, 12)
    for training in (True, False):
        made = back.prepare(view, training=training, seed=4, index=INDEX)
        expected = inputs(audio).prepare(view, training=training, seed=4, index=INDEX)
        assert torch.equal(made["video"], expected["video"])
        assert torch.equal(made["audio"], expected["audio"])


def test_statistics_are_buffers() -> None:
    made = inputs()
    assert set(made.state_dict()) == {"normalise.mean", "normalise.std"}
    assert not list(made.parameters())
    state = made.state()
    made.normalise.mean.zero_()
    assert torch.equal(state["tensors"]["audio_mean"], MEAN)


def test_bad_states_are_refused() -> None:
    def changed(section: str | None, **changes: object) -> dict[str, object]:
        state = inputs().state()
        part = state["settings"][section] if section else state["settings"]
        part.update(changes)
        return state

    with pytest.raises(ValueError, match="have schema 99"):
        Inputs.from_state(changed(None, schema=99))
    with pytest.raises(ValueError, match="were normalised with"):
        Inputs.from_state(changed(None, video_mean=[0.5, 0.5, 0.5]))
    with pytest.raises(ConfigError, match=r"video\.colour") as caught:
        Inputs.from_state(changed("video", colour=1, frames="many"))
    assert len(caught.value.faults) == 2
    with pytest.raises(ConfigError, match=r"audio\.window: must not exceed"):
        Inputs.from_state(changed("audio", window=65))
    with pytest.raises(ValueError, match="compute them with these settings"):
        Inputs.from_state(changed("audio", bands=33))


def test_training_without_indices_is_refused(view: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="one sample index per clip"):
        inputs().prepare(view, training=True)
