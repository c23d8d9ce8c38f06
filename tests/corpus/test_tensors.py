"""Clips in memory: cut as files are, named by their content, learned from like a corpus."""

import numpy as np
import pytest
import torch

from earsight import api
from earsight.corpus.tensors import TensorClips
from earsight.media.types import AudioRequest, ClipRequest, Limits, VideoRequest
from earsight.training.run_folder import read_config


def made(count=16, frames=8, side=40, seconds=2):
    """Clips whose picture is their number and time, and whose sound is as loud as their number."""
    number, time = torch.arange(count), torch.arange(frames)
    grey = (number[:, None] * 10 + time).to(torch.uint8)
    video = grey[:, None, :, None, None].expand(count, 3, frames, side, side).clone()
    video[..., : side // 2] += 100
    audio = (number[:, None] / 100).expand(count, seconds * 8000).float()
    return {"video": video, "audio": audio, "digit": number % 3}


def cut(clips, row, **video):
    request = ClipRequest(
        path="", video=(VideoRequest(start=0.0, **video),) if video else (), audio=()
    )
    return clips.read(int(clips.instances.key[row]), request, Limits()).video[0]


def test_pictures_are_those_shown_at_their_times():
    clips = TensorClips(made(), fps=4, rate=8000)
    found = cut(clips, 2, fps=2, frames=3, size=(40, 40))
    assert found.shape == (3, 40, 40, 3)
    assert found[:, 0, -1, 0].tolist() == [20, 22, 24]
    # Beyond the end the last stays.
    assert cut(clips, 2, fps=1, frames=4, size=(40, 40))[:, 0, -1, 0].tolist() == [20, 24, 27, 27]


def test_boxes_sizes_and_flips():
    clips = TensorClips(made(), fps=4, rate=8000)
    left = cut(clips, 0, fps=1, frames=1, box=(0, 0, 0.5, 1), size=(10, 8))
    assert left.shape == (1, 10, 8, 3)
    assert (left == 100).all()
    flipped = cut(clips, 0, fps=1, frames=1, size=(40, 40), flip=True)
    assert (flipped[0, :, :20] == 0).all()
    assert (flipped[0, :, 20:] == 100).all()


def test_sound_beyond_the_ends_is_silence():
    clips = TensorClips(made(), fps=4, rate=8000)
    request = ClipRequest(
        path="", audio=(AudioRequest(start=1.75, duration=0.5, rate=8000),), video=()
    )
    (sound,) = clips.read(int(clips.instances.key[5]), request, Limits()).audio
    assert sound.dtype == np.float32
    assert (sound[:2000] == np.float32(0.05)).all()
    assert (sound[2000:] == 0).all()


def test_keys_are_of_place_and_content():
    tensors = made()
    keys = TensorClips(tensors, fps=4, rate=8000).instances.key
    assert len(set(keys.tolist())) == 16
    tensors["audio"] = tensors["audio"].clone()
    tensors["audio"][3, 0] = 1
    other = TensorClips(tensors, fps=4, rate=8000).instances.key
    assert np.flatnonzero(keys != other).tolist() == [3]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"video": None, "audio": None}, "give video or audio, not digit"),
        ({"video": torch.zeros(16, 3, 8, 8)}, r"must be \(N, 3, T, H, W\) uint8"),
        ({"audio": torch.zeros(16, 9, dtype=torch.int16)}, r"must be \(N, samples\) of floats"),
        ({"audio": torch.zeros(15, 9)}, "as many clips, not video 16, audio 15, digit 16"),
        ({"digit": torch.zeros(16)}, r"label digit must be \(N,\) integers"),
    ],
)
def test_what_cannot_be_used_is_said(change, told):
    tensors = {name: x for name, x in {**made(), **change}.items() if x is not None}
    with pytest.raises(ValueError, match=told):
        TensorClips(tensors, fps=4, rate=8000)


def test_a_run_learns_from_them_and_goes_on_with_the_same(small, tmp_path):
    tensors, config = made(), api.configure("tiny", settings=small)
    figures = api.pretrain(config, tmp_path / "run", quiet=True, tensors=tensors)
    assert any(name.startswith("knn/video/digit") for name in figures)
    longer = api.configure("tiny", settings=[*small, "train.epochs=3"])
    api.pretrain(longer, tmp_path / "run", resume=True, quiet=True, tensors=tensors)
    others = made()
    others["audio"] = others["audio"] + 0.01
    with pytest.raises(ValueError, match="instances"):
        api.pretrain(longer, tmp_path / "run", resume=True, quiet=True, tensors=others)
    assert read_config(tmp_path / "run").data.corpus == ""
    assert len(api.load(tmp_path / "run", device="cpu").embed_audio(tensors["audio"][0], rate=8000))


def test_settings_and_tensors_must_fit(small, corpus, tmp_path):
    config = api.configure("tiny", settings=[*small, f"data.corpus={corpus}"])
    with pytest.raises(ValueError, match=r"data\.corpus: has no effect"):
        api.pretrain(config, tmp_path / "run", quiet=True, tensors=made())
    idle = ["data.fold=1", "data.cache=memory", "data.audio_missing=silence"]
    with pytest.raises(ValueError, match=r"(?s)data\.fold.*data\.cache.*data\.audio_missing"):
        api.pretrain(
            api.configure("tiny", settings=[*small, *idle]), tmp_path / "run", tensors=made()
        )
    silent = {"video": made()["video"]}
    with pytest.raises(ValueError, match="avid needs audio"):
        api.pretrain(api.configure("tiny", settings=small), tmp_path / "run", tensors=silent)
