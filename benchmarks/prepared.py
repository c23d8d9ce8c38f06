"""Clips loaded from prepared shards, beside the reference loader on the file they are made of.

The clip, the file and the reference are those of ``loader.py``: 8 frames at 16 fps and 224 × 224
pixels, 2 s of sound at 24 kHz as 200 × 257 levels, changes of colour included. The file is
prepared with the settings that `earsight prepare` has unasked. Reading alone, which is what workers
do where spectrograms and colours are left to a device, is timed on both sides, too. It is also held
against all that the reference does, whose workers make spectrograms and colours wherever the
networks are. The decode floor is what a film of these bytes cannot be read below: the packets of
the wanted pictures and of the sound put through decoders that are open already, with nothing
converted.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

import reference_loader as reference
from common import Target, alternate, arguments, finish, median
from earsight import api
from earsight.corpus.manifest import read
from earsight.corpus.shards.prepare import prepare
from earsight.media.decode import decode
from earsight.media.members import open_member, parse_member
from earsight.media.open import open_media
from earsight.media.streams import choose
from earsight.media.types import ClipRequest, Limits, VideoRequest
from earsight.training.devices import keep_memory
from loader import AUDIO, BATCH, PATH, VIDEO, Ours, requests, theirs, waves
from loader import pictures as joined

BOUNDARIES = 40
"""Pictures, at most, that the PSNR is taken over."""


class Floor:
    """Decoders that are open already, and the packets that clips need."""

    def __init__(self, path: str) -> None:
        with open_media(path) as container:
            chosen = choose(container, Limits())
            assert chosen.video is not None
            assert chosen.audio is not None
            streams = chosen.video, chosen.audio
            self.coders = [self._coder(stream.codec_context) for stream in streams]
            self.ticks = [float(stream.time_base or 0) for stream in streams]
            self.packets: list[list[tuple[bytes, int, bool]]] = [[], []]
            for packet in container.demux(*streams):
                if packet.size and packet.pts is not None:
                    kept = bytes(packet), packet.pts, packet.is_keyframe
                    self.packets[packet.stream_index].append(kept)

    @staticmethod
    def _coder(of: Any) -> Any:
        coder: Any = av.CodecContext.create(of.name, "r")
        coder.extradata, coder.thread_count = of.extradata, 1
        if of.type == "audio":
            coder.sample_rate, coder.layout = of.sample_rate, of.layout
        return coder

    def decode(self, requests: Sequence[ClipRequest]) -> None:
        """Decode the pictures and the sound of requests."""
        for request in requests:
            self._decode(request)

    def _decode(self, request: ClipRequest) -> None:
        seen, heard = request.video[0], request.audio[0]
        self._read(0, seen.start, seen.start + (seen.frames - 1) / seen.fps)
        self._read(1, heard.start, heard.start + heard.duration)

    def _read(self, side: int, start: float, end: float) -> None:
        tick, packets, coder = self.ticks[side], self.packets[side], self.coders[side]
        times = [pts * tick for _, pts, _ in packets]
        first = max(at for at, p in enumerate(packets) if p[2] and times[at] <= start + tick)
        last = max(at for at, time in enumerate(times) if time <= end + tick)
        for content, pts, _ in packets[first : last + 1]:
            packet = av.Packet(content)
            packet.pts = packet.dts = pts
            coder.decode(packet)
        coder.decode(None)
        coder.flush_buffers()


def reference_read(batch: Sequence[ClipRequest]) -> None:
    """The reference's reading: pictures cropped, resized and mirrored, and sound."""
    for request in batch:
        with av.open(request.path) as container:
            for image in reference.read_pictures(container, request.video[0]):
                np.asarray(reference.shape(image, request.video[0]))
            reference.read_sound(container, request.audio[0])


def prepared(folder: Path) -> tuple[str, dict[str, float]]:
    """The film made of the file; its bytes and seconds, and the file's bytes."""
    api.scan([str(PATH)], folder / "corpus.parquet", workers=0)
    prepare(folder / "corpus.parquet", folder / "shards", workers=0)
    shards = read(folder / "shards")
    path = shards.absolute(0)
    member = parse_member(path)
    assert member is not None
    seconds = float(shards.column("end")[0] - shards.column("start")[0])
    return path, {"bytes": member.length, "seconds": seconds, "before": PATH.stat().st_size}


def likeness(path: str) -> float:
    """PSNR in dB of the film's pictures to those that the file shows then, at the file's size."""
    with open_media(PATH) as container:
        stream = container.streams.video[0]
        size = stream.codec_context.height, stream.codec_context.width
    with open_media(path) as container:
        times = [float(f.time) for f in container.decode(video=0) if f.time is not None]
    wanted = [
        VideoRequest(start=time + 1e-4, fps=1.0, frames=1, size=size)
        for time in times[:: max(1, len(times) // BOUNDARIES)]
    ]
    ours, before = (
        np.concatenate(decode(ClipRequest(path=where, video=tuple(wanted))).video).astype(
            np.float64
        )
        for where in (path, str(PATH))
    )
    return float(10 * np.log10(255**2 / np.mean((ours - before) ** 2)))


def stages(
    ours: Ours, batches: list[list[ClipRequest]], path: str
) -> dict[str, Callable[[int], object]]:
    """Parts of the work that can be timed alone, each a function of the batch's number."""
    member = parse_member(path)
    assert member is not None
    floor = Floor(path)
    clips = [decode(request) for request in batches[0]]
    video, sound = joined(clips), waves(clips)

    def opened(number: int) -> None:
        for request in batches[number]:
            with open_media(request.path, probing=False) as container:
                choose(container, Limits())

    def part(number: int, **kept: Any) -> None:
        for request in batches[number]:
            decode(replace(request, **kept))

    return {
        "read": lambda n: [open_member(member) for _ in batches[n]],
        "open": opened,
        "pictures": lambda n: part(n, audio=()),
        "sound": lambda n: part(n, video=()),
        "both": part,
        "spectrogram": lambda _: ours.spectrogram(sound),
        "photometric": lambda _: ours.colour(video),
        "decode floor": lambda n: floor.decode(batches[n]),
    }


def ratio_of(slow: list[float], fast: list[float]) -> float:
    """How many times longer one side takes, in the middle of the rounds."""
    return median([one / other for one, other in zip(slow, fast, strict=True)])


def main() -> int:
    args = arguments(__doc__ or "")
    if not PATH.exists():
        print(f"{PATH} is missing; this benchmark needs that file")
        return 1
    keep_memory()  # As training does; the reference has the same.
    torch.set_num_threads(1)
    rounds = 3 if args.quick else 25
    with tempfile.TemporaryDirectory() as folder:
        path, film = prepared(Path(folder))
        psnr = likeness(path)
        plan = requests(BATCH * rounds)
        raw_batches = [plan[at : at + BATCH] for at in range(0, len(plan), BATCH)]
        batches = [[replace(one, path=path) for one in batch] for batch in raw_batches]
        ours = Ours()
        sides = alternate(
            {
                "prepared": lambda number: ours.load(batches[number]),
                "as found": lambda number: ours.load(raw_batches[number]),
                "reference": lambda number: theirs(raw_batches[number]),
            },
            rounds,
        )
        reading = alternate(
            {
                "prepared": lambda number: [decode(one) for one in batches[number]],
                "as found": lambda number: [decode(one) for one in raw_batches[number]],
                "reference": lambda number: reference_read(raw_batches[number]),
            },
            rounds,
        )
        parts = alternate(stages(ours, batches, path), rounds)
    speed = {name: BATCH / median(values) for name, values in sides.items()}
    alone = {name: BATCH / median(values) for name, values in reading.items()}
    milliseconds = {name: 1e3 * median(values) / BATCH for name, values in parts.items()}
    for name, clips in speed.items():
        print(f"{name}: {clips:.1f} clips/s per core, {alone[name]:.1f} for reading alone")
    print(
        "what the parts of a prepared clip take, in ms of one core ('both' holds those above it):"
    )
    for name, value in milliseconds.items():
        print(f"  {name}: {value:.2f}")
    gain = ratio_of(sides["reference"], sides["prepared"])
    gain_alone = ratio_of(reading["reference"], reading["prepared"])
    over = ratio_of(parts["both"], parts["decode floor"])
    print(f"reading alone over the reference's: {gain_alone:.2f}×, over the floor: {over:.2f}×")
    raw = {
        "batch": BATCH,
        "film": film,
        "video": vars(VIDEO),
        "audio": vars(AUDIO),
        "core_seconds": sides,
        "core_seconds_of_parts": parts,
        "core_seconds_of_reading": reading,
        "clips_per_second": speed,
        "clips_per_second_reading": alone,
        "reading_over_reference": gain_alone,
        "milliseconds": milliseconds,
        "over_decode_floor": over,
    }
    left_to_device = ratio_of(sides["reference"], reading["prepared"])
    targets = [
        Target(name="pictures agree with the file, PSNR", measured=psnr, unit=" dB", least=35),
        Target(
            name="bytes over the file's", measured=film["bytes"] / film["before"], unit="×", most=2
        ),
        Target(name="clips/s per core over reference", measured=gain, unit="×", least=6),
        Target(
            name="the same, spectrograms and colours left to a device",
            measured=left_to_device,
            unit="×",
            least=8,
        ),
    ]
    return finish(targets, raw, args.json)


if __name__ == "__main__":
    sys.exit(main())
