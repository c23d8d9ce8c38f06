"""Published weights as a run: everything an evaluation needs, and where it comes from."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from earsight import presets
from earsight.config import ConfigError, RunConfig, Tree, as_tree, merge, override, parse
from earsight.encoders.pair import Pair, build_pair
from earsight.encoders.released import check_shapes
from earsight.files import content_digest
from earsight.training.origin import Origin, write_origin
from earsight.training.released import Key, Released, read_released
from earsight.training.run_folder import check_new, create_run, save_encoders
from earsight.transforms.inputs import Inputs
from earsight.transforms.statistics_file import read_statistics
from earsight.version import __version__

LICENCE = "non-commercial licence of the published weights: CC BY-NC 4.0, see the publisher"
PRESET = "avid-published"
"""What the weights do not tell is taken from it."""

_EPSILON = 1e-5
_FREE = ("video.", "audio.", "audio_encoder.strides", "evaluation.", "data.", "threads", "device")
_ASSUMED = (
    "video.frames",
    "video.fps",
    "video.size",
    "audio.rate",
    "audio.duration",
    "audio.spectrogram",
    "audio.n_fft",
    "audio.window",
    "audio.hop",
    "audio.bands",
    "audio.padding",
    "audio.precision",
    "audio.top_db",
    "audio_encoder.strides",
    "method.video_to_audio",
    "method.audio_to_video",
    "method.video_to_video",
    "method.audio_to_audio",
)
"""Settings on which an evaluation depends and that no weight tells."""

_SILENT = (
    "no statistics of the spectrograms were given (--audio-stats), so sound is not normalised, and "
    "features of sound are not those that the weights were trained for"
)


def import_avid(
    file: Path,
    run: Path,
    *,
    audio_stats: Path | None = None,
    settings: Sequence[str] = (),
) -> Origin:
    """Make a run of a released AVID or AVID-CMA checkpoint (in the layout of its code).

    Depth and widths are read off the shapes; the rest is that of the preset ``avid-published`` or
    of ``settings``. The partition Z̄ becomes the run's fixed one.

    Args:
        file: the checkpoint.
        run: the run folder to make.
        audio_stats: statistics of the spectrograms, see
            :func:`earsight.transforms.statistics_file.read_statistics`; sound is normalised by
            ``(x − mean)/(std + 1e-5)``. None leaves it as it is.
        settings: ``section.name=value``, of what the file does not tell.

    Returns:
        What was read, assumed, used and left unused.

    Raises:
        ValueError: the checkpoint, the statistics or a setting cannot be used, or the folder holds
            something already; nothing is then written.
    """
    check_new(run)
    released = read_released(file)
    config = imported_config(released, settings)
    model = _model(file, released, config)
    inputs = _inputs(config, audio_stats)
    origin = Origin(
        layout="avid",
        file=file.name,
        sha256=content_digest(file),
        licence=LICENCE,
        criterion=released.criterion,
        epoch=released.epoch,
        read=_read_settings(released, config),
        assumed=_assumed_settings(config, settings),
        given=tuple(settings),
        statistics=audio_stats.name if audio_stats else "",
        keys=_by_status(released.keys),
        warnings=() if audio_stats else (_SILENT,),
    )
    create_run(run, config)
    save_encoders(run, model, inputs, config, licence=LICENCE)
    write_origin(run, origin)
    _write_log(run, origin)
    return origin


def imported_config(released: Released, settings: Sequence[str]) -> RunConfig:
    """The settings of a run of released weights.

    Raises:
        ConfigError: a setting that the weights decide or that imported weights have no use for,
            or one that cannot be used.
    """
    if wrong := [s for s in settings if not s.startswith(_FREE)]:
        raise ConfigError(
            f"{s}: is read off the weights, or of no use to them; only {', '.join(_FREE)} may be "
            "given"
            for s in wrong
        )
    tree = merge(presets.load(PRESET), released.architecture)
    if released.partition is not None:
        partition = {"partition": "fixed", "partition_value": released.partition}
        tree = merge(tree, {"method": partition})
    if released.epoch:
        tree = merge(tree, {"train": {"epochs": released.epoch, "keep": []}})
    return parse(override(tree, settings))


def _model(file: Path, released: Released, config: RunConfig) -> Pair:
    """Encoders and heads with the released weights."""
    with torch.device("meta"):
        model = build_pair(config)
    expected = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    try:
        check_shapes({name: tuple(x.shape) for name, x in released.weights.items()}, expected)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    model.load_state_dict(released.weights, assign=True)
    return model


def _inputs(config: RunConfig, audio_stats: Path | None) -> Inputs:
    """Inputs that normalise as the published code does, or not at all."""
    bands = config.audio.bands
    if audio_stats is None:
        mean, std = torch.zeros(bands), torch.ones(bands)
    else:
        mean, std = read_statistics(audio_stats, bands)
        std = std + _EPSILON
    return Inputs(config.video, config.audio, mean=mean, std=std, clips=0)


def _at(tree: Tree, path: str) -> Any:
    value: Any = tree
    for name in path.split("."):
        value = value[name]
    return value


def _read_settings(released: Released, config: RunConfig) -> Mapping[str, Any]:
    paths = [
        f"{section}.{name}" for section, part in released.architecture.items() for name in part
    ]
    if released.partition is not None:
        paths += ["method.partition", "method.partition_value"]
    if released.epoch:
        paths.append("train.epochs")
    return {path: _at(as_tree(config), path) for path in paths}


def _assumed_settings(config: RunConfig, settings: Sequence[str]) -> Mapping[str, Any]:
    given = {setting.partition("=")[0] for setting in settings}
    return {path: _at(as_tree(config), path) for path in _ASSUMED if path not in given}


def _by_status(keys: Sequence[Key]) -> dict[str, dict[str, str]]:
    statuses = ("used", "unused", "missing")
    return {name: {k.name: k.about for k in keys if k.status == name} for name in statuses}


def _write_log(run: Path, origin: Origin) -> None:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    lines = [f"earsight {__version__}", *describe(origin).splitlines()]
    text = "".join(f"{stamp}  {line}\n" for line in lines if line)
    (run / "log.txt").write_text(text, encoding="utf-8")


def describe(origin: Origin) -> str:
    """What became of every key, for people; the weights' own names are counted, not listed."""
    weights = [name for name in origin.keys["used"] if name.startswith("model.")]
    criterion = f"trained by {origin.criterion}" if origin.criterion else "without a criterion"
    lines = [
        f"{origin.weights} ({criterion}), sha256 {origin.sha256}",
        f"read: {_listed(origin.read)}",
        f"assumed: {_listed(origin.assumed)}",
    ]
    if origin.given:
        lines.append(f"given: {', '.join(origin.given)}")
    lines += ["", f"{len(weights)} weights of encoders and heads: used"]
    for keys in origin.keys.values():
        lines += [f"{name}: {about}" for name, about in keys.items() if name not in set(weights)]
    return "\n".join(lines)


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())
