"""Decoded pictures to pixels: crop, scale and colour in one libav graph, then turn and mirror."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from earsight.media.streams import check_pixels
from earsight.media.types import Limits, VideoRequest

Box = tuple[float, float, float, float]

_FAST_WIDTH = 16


@dataclass(frozen=True, kw_only=True)
class Orientation:
    """How a coded picture becomes upright: transposed first, then mirrored along its axes.

    Together these are the eight orientations of EXIF.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def rotation(self) -> int:
        """Degrees counter-clockwise from coded to upright (before mirroring, if any)."""
        if self.transpose:
            return 90 if self.flip_y else 270
        return 180 if self.flip_y else 0

    @property
    def mirrored(self) -> bool:
        """Whether the upright picture is mirrored left to right after its rotation."""
        return self.transpose ^ self.flip_x ^ self.flip_y

    def coded(self, box: Box) -> Box:
        """A box of the upright picture, in fractions of the coded one."""
        x0, y0, x1, y1 = box
        if self.flip_x:
            x0, x1 = 1 - x1, 1 - x0
        if self.flip_y:
            y0, y1 = 1 - y1, 1 - y0
        return (y0, x0, y1, x1) if self.transpose else (x0, y0, x1, y1)

    @property
    def coded_flips(self) -> tuple[bool, bool]:
        """Whether to mirror coded columns and coded rows, to do so before transposing."""
        return (self.flip_y, self.flip_x) if self.transpose else (self.flip_x, self.flip_y)


def orientation_of(frame: VideoFrame) -> Orientation:
    """The orientation that a frame's display matrix asks for, to the nearest right angle.

    The matrix maps coded ``(x, y)`` to ``(a x + c y, b x + d y)``; it is stored in rows of three
    with 16 fractional bits.
    """
    sides: Mapping[str, Any] = frame.side_data
    matrix = sides.get("DISPLAYMATRIX")
    if matrix is None:
        return Orientation()
    a, b, _, c, d = np.frombuffer(matrix, np.int32, count=5).tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(transpose=False, flip_x=a < 0, flip_y=d < 0)
    return Orientation(transpose=True, flip_x=c < 0, flip_y=b < 0)


def pixel_box(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """A box in fractions as ``(x, y, width, height)`` in whole pixels, at least one each way."""

    def span(low: float, high: float, size: int) -> tuple[int, int]:
        first = min(max(round(low * size), 0), size - 1)
        return first, max(min(round(high * size), size) - first, 1)

    (x, w), (y, h) = span(box[0], box[2], width), span(box[1], box[3], height)
    return x, y, w, h


def _crops_anywhere(layout: VideoFormat) -> bool:
    """Whether libav can crop from and to odd columns.

    It reckons in bytes, so it cannot where subsampled colours are interleaved or of two bytes each.
    """
    planes = [(part.plane, part.bits) for part in layout.components]
    return len({plane for plane, _ in planes}) == len(planes) and all(b == 8 for _, b in planes)


def _colour_shift(layout: VideoFormat, x: int, y: int) -> str:
    """Tell the scaler where subsampled colours lie in a crop that begins at an odd column or row.

    Positions are in 256ths of a pixel; uncropped, they are 0 (left) and 128 (in the middle).
    """
    if len(layout.components) < 3:
        return ""
    light, colour, *_ = layout.components
    across = ":in_h_chr_pos=-256" if x % 2 and colour.width < light.width else ""
    down = ":in_v_chr_pos=-128" if y % 2 and colour.height < light.height else ""
    return across + down


def _whole_rows(before: tuple[int, int], after: tuple[int, int]) -> str:
    """Where nothing is scaled, swscale's fast way forgets the last columns of most widths."""
    return "+accurate_rnd" if before == after and after[0] % _FAST_WIDTH else ""


def graph_ends(frame: VideoFrame, wanted: str) -> tuple[Graph, FilterContext, FilterContext]:
    """A graph of one thread for frames such as this one, with its source and its sink.

    The format ``wanted`` is said at the sink, since agreeing on one takes libav long where filters
    leave it open.
    """
    graph = Graph()
    if hasattr(graph, "threads"):
        graph.threads = 1
    source = graph.add(
        "buffer",
        video_size=f"{frame.width}x{frame.height}",
        pix_fmt=frame.format.name,
        time_base="1/1",
        pixel_aspect="1/1",
        colorspace=str(frame.colorspace),
        range=str(frame.color_range),
    )
    return graph, source, graph.add("buffersink", pixel_formats=wanted)


class Converter:
    """Turns frames into the pixels that one request asks for.

    The graph crops (by pointer, nothing is copied), scales by swscale's bilinear filter (which
    averages when it shrinks) and writes planar RGB: swscale is fastest at that, and it keeps the
    full resolution of colour. It is built for the first frame, and again whenever size or format
    of the frames change.

    Attributes:
        pixels: ``(T, H, W, 3)`` uint8, a view of memory laid out as ``(3, T, H, W)``, which is how
            networks want it.
    """

    def __init__(
        self, request: VideoRequest, limits: Limits, turn: Orientation | None = None
    ) -> None:
        """Make room for the pictures; ``turn`` is their orientation if frames do not tell it."""
        self._request = request
        self._turn = turn
        self._limits = limits
        self._planes = np.empty((3, request.frames, *request.size), np.uint8)
        self._frame: VideoFrame | None = None
        self._slot = 0
        self._key: tuple[object, ...] = ()
        self._transpose = self._flip_rows = False
        self._size = (0, 0)
        self._graph: Graph | None = None
        self._source: FilterContext | None = None
        self._sink: FilterContext | None = None
        self.pixels: NDArray[np.uint8] = self._planes.transpose(1, 2, 3, 0)

    def convert(self, frame: VideoFrame, slot: int) -> None:
        """Write ``frame`` as picture ``slot`` of the request."""
        if frame is self._frame:
            self._planes[:, slot] = self._planes[:, self._slot]
            return
        self._frame, self._slot = frame, slot
        key = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if key != self._key:
            self._build(frame)
            self._key = key
        assert self._source is not None
        assert self._sink is not None
        self._source.push(frame)
        scaled = self._sink.pull()
        assert isinstance(scaled, VideoFrame)
        width, height = self._size
        planes: Sequence[Any] = scaled.planes
        # They come as green, blue, red.
        for channel, plane in zip((1, 2, 0), planes, strict=True):
            rows = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)[:, :width]
            if self._flip_rows:
                rows = rows[::-1]
            self._planes[channel, slot] = rows.T if self._transpose else rows

    def _build(self, frame: VideoFrame) -> None:
        check_pixels(frame.width, frame.height, self._limits)
        request, turn = self._request, self._turn or orientation_of(frame)
        x, y, w, h = pixel_box(turn.coded(request.box), frame.width, frame.height)
        if not _crops_anywhere(frame.format):
            end = min(x + w + (x + w) % 2, frame.width)
            x -= x % 2
            w = end - x
        high, wide = request.size
        self._size = (high, wide) if turn.transpose else (wide, high)
        self._transpose = turn.transpose
        # Mirroring for the request comes after the turn, on the same axis as flip_x.
        flip_columns, self._flip_rows = replace(turn, flip_x=turn.flip_x ^ request.flip).coded_flips
        graph, self._source, self._sink = graph_ends(frame, "gbrp")
        nodes = [self._source]
        if frame.format.is_bit_stream or frame.format.has_palette:
            nodes.append(graph.add("format", "gbrp"))
        if (w, h) != (frame.width, frame.height):
            nodes.append(graph.add("crop", f"{w}:{h}:{x}:{y}:exact=1"))
        shift = _colour_shift(frame.format, x, y)
        flags = f"bilinear{_whole_rows((w, h), self._size)}"
        nodes.append(graph.add("scale", f"{self._size[0]}:{self._size[1]}:flags={flags}{shift}"))
        if flip_columns:
            nodes.append(graph.add("hflip"))
        graph.link_nodes(*nodes, self._sink).configure()
        self._graph = graph
