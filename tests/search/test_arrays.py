"""Pictures and sound in memory: which layouts are taken, and which are refused."""

import numpy as np
import pytest
import torch

from earsight import api
from earsight.search.arrays import as_sound


@pytest.fixture(scope="module")
def embedder(finished):
    return api.load(finished, device="cpu")


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "int64"])
def test_signed_integers_are_full_scale(kind):
    most = np.iinfo(kind).max
    sound = np.array([[-most - 1, 0, most // 2 + 1], [-most - 1, 0, most // 2 + 1]], kind)
    assert as_sound(sound).tolist() == [-1.0, 0.0, 0.5]
    assert as_sound(torch.from_numpy(sound)).tolist() == [-1.0, 0.0, 0.5]


def test_integers_embed_as_the_floats_they_stand_for(embedder):
    rate = embedder.loaded.config.audio.rate
    wave = np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)
    pcm = np.round(wave * 32767).astype(np.int16)
    one, other = (embedder.embed_audio(x, rate=rate) for x in (pcm, pcm / 32768))
    torch.testing.assert_close(one.vectors["audio"], other.vectors["audio"])


@pytest.mark.parametrize("kind", ["uint8", "uint16", "bool", "complex64"])
def test_other_types_are_refused(embedder, kind):
    with pytest.raises(ValueError, match=f"signed integers, not {kind}; give floats"):
        embedder.embed_audio(np.ones(8000, kind), rate=8000)


@pytest.mark.parametrize("shape", [(8000, 2), (65, 8000)])
def test_samples_before_channels_are_refused(embedder, shape):
    with pytest.raises(ValueError, match=r"give \(channels, samples\), transposed"):
        embedder.embed_audio(np.zeros(shape, np.float32), rate=8000)


def test_single_numbers_are_no_sound_and_no_pictures(embedder):
    with pytest.raises(ValueError, match=r"sound must be \(samples,\)"):
        embedder.embed_audio(np.float32(0), rate=8000)
    with pytest.raises(ValueError, match=r"pictures must be \(T, H, W, 3\)"):
        embedder.embed_video(np.uint8(0), fps=4)


@pytest.mark.parametrize("fps", [float("nan"), float("inf"), 0, -1])
def test_pictures_a_second_are_a_positive_number(embedder, fps):
    with pytest.raises(ValueError, match="fps: give"):
        embedder.embed_video(np.zeros((4, 8, 8, 3), np.uint8), fps=fps)
