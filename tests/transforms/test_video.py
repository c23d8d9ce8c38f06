import colorsys
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from earsight import random
from earsight.config import VideoConfig
from earsight.transforms import video as module
from earsight.transforms.video import augment, normalise

OFF = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "grayscale": 0.0}
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
INDEX = np.array([3, 1_000_000_007, 0, 12, 13])


def config(**changes: float) -> VideoConfig:
    made: VideoConfig = VideoConfig(**(OFF | changes))
    return made


def factor(strength: float, purpose: str, index: int, seed: int = 5, view: int = 1) -> float:
    return 1 + strength * (2 * float(random.uniform(seed, purpose, index, view)) - 1)


def gray_of(rgb: tuple[float, ...]) -> float:
    return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]


def naive(clip: NDArray[np.uint8], settings: VideoConfig, index: int) -> NDArray[np.float64]:
    """One clip ``(3, T, H, W)``, pixel by pixel in float64, in the documented order."""
    pixels = [tuple(float(x) / 255 for x in p) for p in clip.reshape(3, -1).T]
    b = factor(settings.brightness, "brightness", index)
    c = factor(settings.contrast, "contrast", index)
    s = factor(settings.saturation, "saturation", index)
    if random.uniform(5, "grayscale", index, 1) < settings.grayscale:
        s = 0.0
    turn = factor(settings.hue, "hue", index) - 1
    pixels = [tuple(b * x for x in p) for p in pixels]
    mean = sum(gray_of(p) for p in pixels) / len(pixels)
    pixels = [tuple(c * x + (1 - c) * mean for x in p) for p in pixels]
    pixels = [tuple(s * x + (1 - s) * gray_of(p) for x in p) for p in pixels]
    pixels = [tuple(min(max(x, 0.0), 1.0) for x in p) for p in pixels]
    if settings.hue:
        hsv = [colorsys.rgb_to_hsv(*p) for p in pixels]
        pixels = [colorsys.hsv_to_rgb((h + turn) % 1, sat, v) for h, sat, v in hsv]
    scaled = [[(p[k] - MEAN[k]) / STD[k] for p in pixels] for k in range(3)]
    return np.array(scaled).reshape(clip.shape)


def run(clips: Tensor, settings: VideoConfig, index: NDArray[np.int64] | Tensor = INDEX) -> Tensor:
    return augment(clips, settings, seed=5, index=index, view=1)


@pytest.mark.parametrize(
    "changes",
    [
        {"brightness": 0.4},
        {"contrast": 0.4},
        {"saturation": 0.4},
        {"hue": 0.2},
        {"hue": 0.5},
        {"grayscale": 0.5},
        {"brightness": 0.4, "contrast": 0.4},
        {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.5, "grayscale": 0.3},
        {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2},
    ],
    ids="+".join,
)
def test_changes_equal_naive_loops(
    clips: Tensor, changes: dict[str, float], device: torch.device
) -> None:
    chosen = config(**changes)
    made = run(clips.to(device), chosen)
    assert made.dtype == torch.float32
    assert made.device.type == device.type
    for n, index in enumerate(INDEX):
        expected = naive(clips[n].numpy(), chosen, int(index))
        np.testing.assert_allclose(made[n].cpu().numpy(), expected, atol=2e-5)


@given(
    st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=8),
    st.integers(0, 10_000),
)
@settings(max_examples=60, deadline=None)
def test_hue_is_that_of_colorsys(pixels: list[tuple[int, int, int]], index: int) -> None:
    clip = torch.tensor(pixels, dtype=torch.uint8).T.reshape(1, 3, 1, 1, -1)
    chosen = config(hue=0.5)
    made = run(clip, chosen, np.array([index]))
    np.testing.assert_allclose(made[0].numpy(), naive(clip[0].numpy(), chosen, index), atol=2e-5)


def test_results_stay_in_range(clips: Tensor) -> None:
    strong = config(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.5, grayscale=0.2)
    made = run(clips.repeat(20, 1, 1, 1, 1), strong, np.arange(100))
    for channel in range(3):
        pixels = made[:, channel] * STD[channel] + MEAN[channel]
        assert pixels.min() >= -1e-5
        assert pixels.max() <= 1 + 1e-5


def test_normalise(clips: Tensor, device: torch.device) -> None:
    mean = np.array(MEAN).reshape(3, 1, 1, 1)
    expected = (clips.numpy() / 255 - mean) / np.array(STD).reshape(3, 1, 1, 1)
    made = normalise(clips.to(device)).cpu()
    np.testing.assert_allclose(made.numpy(), expected, atol=1e-5)
    last = normalise(clips.to(device).contiguous(memory_format=torch.channels_last_3d)).cpu()
    assert torch.equal(last, made)


def test_strength_nought_is_normalisation_alone(
    clips: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = normalise(clips)

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("nothing should be drawn or mixed")

    for name in ("_draw", "_mix", "_rotate", "_mean_gray", "_planes"):
        monkeypatch.setattr(module, name, refuse)
    assert torch.equal(run(clips, config()), expected)


def test_what_has_no_strength_is_not_drawn(clips: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    purposes = []
    uniform = random.uniform

    def spy(seed: int, purpose: str, *args: ArrayLike) -> ArrayLike:
        purposes.append(purpose)
        return uniform(seed, purpose, *args)

    monkeypatch.setattr(random, "uniform", spy)
    run(clips, config(brightness=0.4, hue=0.1))
    assert purposes == ["brightness", "hue"]


def test_a_clip_depends_on_its_own_pixels_and_index_only(clips: Tensor) -> None:
    chosen = config(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2, grayscale=0.3)
    made = run(clips, chosen)
    for n in range(len(clips)):
        alone = run(clips[n : n + 1], chosen, INDEX[n : n + 1])
        assert torch.equal(alone[0], made[n])
    order = [4, 2, 0, 1, 3]
    assert torch.equal(run(clips[order], chosen, INDEX[order]), made[order])
    assert torch.equal(run(clips, chosen, torch.from_numpy(INDEX)), made)


def test_views_seeds_and_indices_draw_differently(clips: Tensor) -> None:
    chosen = config(brightness=0.4)
    made = augment(clips, chosen, seed=5, index=INDEX, view=1)
    assert not torch.allclose(augment(clips, chosen, seed=5, index=INDEX, view=0), made)
    assert not torch.allclose(augment(clips, chosen, seed=6, index=INDEX, view=1), made)
    same = augment(clips[:1].expand(2, -1, -1, -1, -1), chosen, seed=5, index=INDEX[:2], view=1)
    assert not torch.allclose(same[0], same[1])


def test_all_frames_change_alike() -> None:
    frame = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (1, 3, 1, 8, 8), np.uint8))
    chosen = config(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2)
    made = run(frame.repeat(1, 1, 6, 1, 1), chosen, INDEX[:1])
    assert torch.equal(made, made[:, :, :1].expand_as(made))


def test_gray_clips_come_as_often_as_asked(clips: Tensor) -> None:
    made = run(clips[:1].repeat(400, 1, 1, 1, 1), config(grayscale=0.3, hue=0.2), np.arange(400))
    pixels = made * torch.tensor(STD).view(3, 1, 1, 1) + torch.tensor(MEAN).view(3, 1, 1, 1)
    gray = (pixels.amax(1) - pixels.amin(1)).flatten(1).amax(1) < 1e-5
    assert 0.2 < gray.float().mean() < 0.4


def test_pieces_do_not_change_the_result(clips: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = config(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2)
    whole, plain = run(clips, chosen), normalise(clips)
    monkeypatch.setattr(module, "_CPU_PIXELS", 1)
    torch.testing.assert_close(run(clips, chosen), whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(normalise(clips), plain, atol=1e-6, rtol=0)
    # several clips at a time, as on an accelerator
    both = [(slice(0, 3), slice(0, 4)), (slice(3, 6), slice(0, 4))]
    monkeypatch.setattr(module, "_pieces", lambda video: iter(both))
    torch.testing.assert_close(run(clips, chosen), whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(normalise(clips), plain, atol=1e-6, rtol=0)


@pytest.mark.parametrize("chosen", [config(), config(hue=0.2, contrast=0.3)], ids=["off", "on"])
def test_memory_formats(clips: Tensor, chosen: VideoConfig, device: torch.device) -> None:
    planar = clips.to(device)
    frames_last = planar.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)
    made = run(planar, chosen)
    assert made.is_contiguous()
    followed = run(frames_last, chosen)
    assert followed.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(followed, made, atol=1e-6, rtol=0)
    for source in (planar, frames_last):
        for form in (torch.contiguous_format, torch.channels_last_3d):
            asked = augment(source, chosen, seed=5, index=INDEX, view=1, memory_format=form)
            assert asked.is_contiguous(memory_format=form)
            torch.testing.assert_close(asked, made, atol=1e-6, rtol=0)
    frames_first = planar.transpose(1, 2).contiguous().transpose(1, 2)
    torch.testing.assert_close(run(frames_first, chosen), made, atol=1e-6, rtol=0)


def test_input_is_left_alone(clips: Tensor) -> None:
    before = clips.clone()
    run(clips, VideoConfig())
    normalise(clips)
    assert torch.equal(clips, before)


def test_bad_input_is_refused(clips: Tensor) -> None:
    with pytest.raises(ValueError, match="give uint8 pictures"):
        normalise(clips.float())
    with pytest.raises(ValueError, match=r"\(5, 4, 3, 9, 7\)"):
        normalise(clips.transpose(1, 2))
    with pytest.raises(ValueError, match="one sample index per clip"):
        run(clips, config(), INDEX[:3])


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiled code needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's compiler itself
@pytest.mark.parametrize("size", [(7, 19), (6, 18)], ids=["bytes", "whole words"])
def test_compiled_changes_are_the_same(size):
    """Compiling takes seconds, so few shapes are tried: one, then others of its sizes."""
    torch.compiler.reset()
    settings = config(brightness=0.6, contrast=0.7, saturation=0.9, hue=0.4, grayscale=0.3)
    clips = torch.randint(0, 256, (5, 3, 2, *size), dtype=torch.uint8)
    clips[0], clips[1] = 255, clips[1, :1]
    for form in (torch.preserve_format, torch.channels_last_3d):

        def fused(clips, index, form=form):
            return augment(
                clips, settings, seed=5, index=index, view=1, memory_format=form, fused=True
            )

        found = fused(clips, INDEX)
        expected = np.stack(
            [naive(c, settings, i) for c, i in zip(clips.numpy(), INDEX, strict=True)]
        )
        np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)
        assert found.is_contiguous(
            memory_format=torch.contiguous_format if form == torch.preserve_format else form
        )
        assert torch.equal(fused(clips[3:4], INDEX[3:4])[0], found[3])
        for count in (3, 2):
            assert torch.equal(fused(clips[:count], INDEX[:count]), found[:count])
    every_other = clips.contiguous(memory_format=torch.channels_last_3d)[::2]
    assert fused(every_other, INDEX[::2]).is_contiguous(memory_format=torch.channels_last_3d)
