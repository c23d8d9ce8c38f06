from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from earsight.media.decode import decode
from earsight.media.picture import Converter, Orientation, orientation_of, pixel_box
from earsight.media.types import ClipRequest, Limits, MediaError, VideoRequest

EVERY = [
    Orientation(transpose=t, flip_x=x, flip_y=y)
    for t in (False, True)
    for x in (False, True)
    for y in (False, True)
]


def upright(orientation: Orientation, coded: NDArray[Any]) -> NDArray[Any]:
    """The definition: transposed first, then mirrored along its axes."""
    image = coded.swapaxes(0, 1) if orientation.transpose else coded
    image = image[:, ::-1] if orientation.flip_x else image
    return image[::-1] if orientation.flip_y else image


@pytest.mark.parametrize("orientation", EVERY)
def test_rotation_and_mirroring_describe_an_orientation(orientation: Orientation) -> None:
    coded = np.arange(12).reshape(3, 4)
    turned = np.rot90(coded, orientation.rotation // 90)
    turned = turned[:, ::-1] if orientation.mirrored else turned
    np.testing.assert_array_equal(turned, upright(orientation, coded))


@pytest.mark.parametrize("orientation", EVERY)
def test_boxes_are_mapped_to_coded_pictures(orientation: Orientation) -> None:
    coded = np.arange(40 * 20).reshape(20, 40)
    whole = upright(orientation, coded)
    box = (0.25, 0.4, 0.75, 0.9)
    high, wide = whole.shape
    expected = whole[int(0.4 * high) : int(0.9 * high), int(0.25 * wide) : int(0.75 * wide)]
    x, y, w, h = pixel_box(orientation.coded(box), 40, 20)
    np.testing.assert_array_equal(upright(orientation, coded[y : y + h, x : x + w]), expected)


@given(st.tuples(*[st.floats(0, 1) for _ in range(4)]), st.integers(1, 500), st.integers(1, 500))
@settings(max_examples=60, deadline=None)
def test_pixel_boxes_lie_within_the_picture(
    corners: tuple[float, float, float, float], width: int, height: int
) -> None:
    x0, x1 = sorted(corners[:2])
    y0, y1 = sorted(corners[2:])
    x, y, w, h = pixel_box((x0, y0, x1, y1), width, height)
    assert 0 <= x < x + w <= width
    assert 0 <= y < y + h <= height
    assert abs(x - x0 * width) <= 1.5
    assert abs(y + h - y1 * height) <= 1.5


def frame_of(image: NDArray[np.uint8], pixel_format: str = "yuv444p") -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixel_format)


def converted(frame: av.VideoFrame, **request: Any) -> NDArray[np.uint8]:
    wanted = VideoRequest(**{"start": 0.0, "fps": 1.0, "frames": 1, **request})
    converter = Converter(wanted, Limits())
    converter.convert(frame, 0)
    return converter.pixels[0]


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 11 + 1), np.cos(y / 7 + x / 40), np.sin((x + y) / 17)]
    return (127 + 100 * np.stack(waves, 2)).astype(np.uint8)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p", "gray", "gbrp"])
@pytest.mark.parametrize("size", [(90, 120), (91, 121)])
def test_crops_without_scaling_are_those_of_numpy(
    make: Any, pixel_format: str, size: tuple[int, int], flip: bool
) -> None:
    image = smooth(*size)
    frame = frame_of(image, pixel_format)
    whole = frame.to_ndarray(format="rgb24")
    for x, y, w, h in ((0, 0, 64, 48), (10, 20, 64, 48), (33, 17, 61, 45)):
        box = (x / size[1], y / size[0], (x + w) / size[1], (y + h) / size[0])
        got = converted(frame, box=box, size=(h, w), flip=flip)
        expected = whole[y : y + h, x : x + w]
        assert make.psnr(got, expected[:, ::-1] if flip else expected) > 30


@pytest.mark.parametrize("pixel_format", ["nv12", "p010le", "yuv420p10le", "yuyv422", "rgb24"])
def test_crops_of_interleaved_or_wide_formats_keep_to_even_columns(
    make: Any, pixel_format: str
) -> None:
    image = smooth(90, 120)
    frame = frame_of(image, pixel_format)
    for x, w in ((20, 64), (21, 63), (20, 63)):
        box = (x / 120, 17 / 90, (x + w) / 120, (17 + 48) / 90)
        got = converted(frame, box=box, size=(48, 64))
        assert make.psnr(got, image[17:65, 20:84]) > 30


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le", "yuv422p10le"])
@pytest.mark.parametrize("size", [(224, 224), (60, 50), (17, 31)])
def test_scaled_crops_are_close_to_pillow(
    make: Any, pixel_format: str, size: tuple[int, int]
) -> None:
    image_module = pytest.importorskip("PIL.Image")
    image = smooth(256, 340)
    frame = frame_of(image, pixel_format)
    crop = image_module.fromarray(image[40:200, 31:300])
    expected = np.asarray(crop.resize(size[::-1], image_module.Resampling.BILINEAR))
    box = (31 / 340, 40 / 256, 300 / 340, 200 / 256)
    assert make.psnr(converted(frame, box=box, size=size), expected) > 33


def test_extreme_sizes(make: Any) -> None:
    frame = frame_of(smooth(600, 2000), "yuv420p")
    assert converted(frame, size=(1, 1)).shape == (1, 1, 3)
    whole = converted(frame, size=(4, 8)).astype(float)
    assert abs(whole.mean() - smooth(600, 2000).mean()) < 6
    pixel = converted(frame, box=(0.5, 0.5, 0.5001, 0.5001), size=(32, 32))
    assert pixel.std(axis=(0, 1)).max() < 2


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)])
@pytest.mark.parametrize("matrix", ["ITU709", "ITU601"])
@pytest.mark.parametrize("reach", ["JPEG", "MPEG"])
def test_colour_matrix_and_range_are_those_of_the_frame(
    colour: tuple[int, int, int], matrix: str, reach: str
) -> None:
    image = np.broadcast_to(np.array(colour, np.uint8), (32, 32, 3)).copy()
    coded = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
        format="yuv444p", dst_colorspace=matrix, dst_color_range=reach
    )
    # Not every PyAV tags what it converts.
    coded.colorspace = {"ITU709": 1, "ITU601": 6}[matrix]
    coded.color_range = {"MPEG": 1, "JPEG": 2}[reach]
    got = converted(coded, size=(20, 20)).astype(int)
    assert np.abs(got - np.array(colour)).max() <= 4


@pytest.mark.parametrize("layout", ["yuv420p", "yuvj420p", "yuv422p"])
@pytest.mark.parametrize("width", [17, 24, 40, 56, 65, 104])
def test_no_column_is_forgotten_where_nothing_is_scaled(layout: str, width: int) -> None:
    gray = np.full((48, 2 * width, 3), 200, np.uint8)
    frame = av.VideoFrame.from_ndarray(gray, format="rgb24").reformat(format=layout)
    box = (0.0, 0.0, 0.5, 1.0)
    wanted = VideoRequest(start=0, fps=1, frames=1, size=(48, width), box=box)
    converter = Converter(wanted, Limits())
    converter.convert(frame, 0)
    np.testing.assert_allclose(converter.pixels, 200, atol=3)


def test_memory_is_laid_out_as_networks_want_it() -> None:
    converter = Converter(VideoRequest(start=0, fps=1, frames=3, size=(5, 7)), Limits())
    assert converter.pixels.shape == (3, 5, 7, 3)
    assert converter.pixels.transpose(3, 0, 1, 2).flags.c_contiguous


def test_a_frame_shown_twice_is_converted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    converter = Converter(VideoRequest(start=0, fps=1, frames=3, size=(16, 16)), Limits())
    frame, other = frame_of(smooth(40, 40)), frame_of(smooth(40, 40)[::-1].copy())
    converter.convert(frame, 0)
    converter.convert(other, 1)
    converter.convert(other, 2)
    np.testing.assert_array_equal(converter.pixels[1], converter.pixels[2])
    assert (converter.pixels[0] != converter.pixels[1]).any()


def test_frames_above_the_limit_are_refused() -> None:
    converter = Converter(VideoRequest(start=0, fps=1, frames=1), Limits(pixels=1599))
    with pytest.raises(MediaError, match="40 × 40 pixels"):
        converter.convert(frame_of(smooth(40, 40)), 0)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_rotated_files_stand_upright(make: Any, media: Path, rotation: int, mirrored: bool) -> None:
    path = media / f"rotated-{rotation}-{mirrored}.mp4"
    make.write(path, make.Video(rotation=rotation, mirrored=mirrored, ticks=range(3)))
    coded = make.every_frame(path)[0][1]
    with av.open(str(path)) as container:
        orientation = orientation_of(next(container.decode(video=0)))
    expected = np.rot90(coded, rotation // 90)
    expected = expected[:, ::-1] if mirrored else expected
    high, wide = expected.shape[:2]
    for flip in (False, True):
        request = VideoRequest(start=0, fps=1, frames=1, size=(high, wide), flip=flip)
        got = decode(ClipRequest(path=str(path), video=(request,))).video[0][0]
        assert make.psnr(got, expected[:, ::-1] if flip else expected) > 35
    quarter = VideoRequest(
        start=0, fps=1, frames=1, size=(high // 2, wide // 2), box=(0.5, 0.0, 1.0, 0.5)
    )
    got = decode(ClipRequest(path=str(path), video=(quarter,))).video[0][0]
    assert make.psnr(got, expected[: high // 2, wide // 2 :]) > 35
    assert orientation.transpose == (rotation % 180 == 90)


def test_a_real_rotated_video(make: Any, real: Path) -> None:
    path = real / "nasa_13013_rotated.mp4"
    coded = make.every_frame(path)[3]
    request = VideoRequest(start=coded[0], fps=1, frames=1, size=(480, 270))
    got = decode(ClipRequest(path=str(path), video=(request,))).video[0][0]
    assert make.psnr(got, np.rot90(coded[1])) > 35


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_ten_bits(make: Any, media: Path, codec: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    path = media / f"ten-bits-{codec}.mp4"
    make.write(path, make.Video(codec=codec, pixel_format="yuv420p10le", ticks=range(6)))
    frames = make.every_frame(path)
    request = VideoRequest(start=0.15, fps=20, frames=2, size=(96, 128))
    video = decode(ClipRequest(path=str(path), video=(request,))).video[0]
    for got, (_, expected) in zip(video, frames[3:5], strict=True):
        assert make.psnr(got, expected) > 35


@pytest.mark.parametrize("size", [(97, 63), (33, 31)])
def test_odd_sizes(make: Any, media: Path, size: tuple[int, int]) -> None:
    path = media / f"odd-{size[0]}.mp4"
    make.write(path, make.Video(size=size, pixel_format="yuv444p", ticks=range(4)))
    request = VideoRequest(start=0.1, fps=20, frames=1, size=size[::-1])
    got = decode(ClipRequest(path=str(path), video=(request,))).video[0][0]
    assert make.psnr(got, make.every_frame(path)[2][1]) > 40
