"""Whether prepared shards are there, and hold what is asked of them."""

from collections.abc import Collection
from pathlib import Path

from earsight.config import AudioConfig, ConfigError, VideoConfig
from earsight.corpus.manifest import Corpus
from earsight.corpus.shards.plan import SHARDS
from earsight.media.members import address, is_remote, remote, told
from earsight.media.transcode import FASTER


def holds_shards(place: str | Path) -> bool:
    """Whether a place is a folder (or address) of prepared shards."""
    text = address(str(place))
    return is_remote(text) or (Path(text) / SHARDS).is_file()


def check_prepared(
    corpus: Corpus, video: VideoConfig, audio: AudioConfig, modalities: Collection[str]
) -> None:
    """Refuse settings that ask more of shards than they hold, and shards that are not there.

    Corpora that were not prepared pass.

    Raises:
        ConfigError: names every setting that asks for more.
        ValueError: a shard is missing.
    """
    if corpus.prepared is None:
        return
    faults = [
        *(_of_pictures(corpus, video) if "video" in modalities else ()),
        *(_of_sound(corpus, audio) if "audio" in modalities else ()),
    ]
    if faults:
        raise ConfigError(faults)
    _check_shards(corpus)


def _of_pictures(corpus: Corpus, video: VideoConfig) -> list[str]:
    assert corpus.prepared is not None
    coding, faults = corpus.prepared, []
    seen = corpus.column("video_stream") >= 0
    # Only where the limits of the shards cut something off is anything missing.
    fastest = float(corpus.column("source_fps")[seen].max(initial=0.0))
    if video.fps > coding.fps and fastest > coding.fps * FASTER:
        faults.append(
            f"video.fps: the corpus was prepared at {coding.fps:g} frames per second, and "
            f"{video.fps:g} are asked for; lower it, or prepare again with --fps {video.fps:g}"
        )
    largest = int(corpus.column("source_side")[seen].max(initial=0))
    wanted = max(video.size, video.short_side)
    if wanted > coding.short_side and largest > coding.short_side:
        faults.append(
            f"video.{'short_side' if video.short_side else 'size'}: the corpus was prepared with "
            f"a short side of {coding.short_side} pixels, and {wanted} are asked for; lower it, or "
            f"prepare again with --short-side {wanted}"
        )
    return faults


def _of_sound(corpus: Corpus, audio: AudioConfig) -> list[str]:
    assert corpus.prepared is not None
    if audio.rate <= corpus.prepared.rate:
        return []
    return [
        f"audio.rate: the corpus was prepared at {corpus.prepared.rate} samples per second, and "
        f"{audio.rate} are asked for; lower it, or prepare again with --rate {audio.rate}"
    ]


def _check_shards(corpus: Corpus) -> None:
    (folder,) = corpus.roots.values()
    wanted = {
        path.split("/")[0]
        for path, offset in zip(
            *(corpus.table.column(name).to_pylist() for name in ("path", "offset")), strict=True
        )
        if offset is not None
    }
    missing = sorted(wanted - _names(folder))
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(
            f"{folder}: shard {missing[0]}{more} is missing, of {len(wanted)}; copy it there, or "
            "run `earsight prepare` again, which makes what is missing"
        )


def _names(folder: str) -> set[str]:
    if not is_remote(folder):
        return {path.name for path in Path(folder).glob("*.tar")}
    system, inside = remote(folder)
    try:
        return {str(path).rsplit("/", 1)[-1] for path in system.ls(inside, detail=False)}
    except FileNotFoundError:
        return set()
    except Exception as error:
        raise ValueError(f"{folder}: its shards cannot be listed ({told(error)})") from error
