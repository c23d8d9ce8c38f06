"""What the runs of docs/make_reproduce.py take, from benchmarks/results."""

import math
from dataclasses import dataclass
from functools import cache

import torch
from make_scale import grown, load, step_speed
from reproduce_plans import FOLDS, GPUS, Plan
from torch.utils.flop_counter import FlopCounterMode

from earsight import presets
from earsight.config import merge, parse
from earsight.encoders import build_pair
from earsight.evaluation.published import TRAINING
from earsight.methods import MomentumConfig, PoolConfig
from earsight.presets import protocols

CLIP = 10.0
"""Seconds of an instance, as in the papers' data sets."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Operations of a clip: products and convolutions."""

    forward: int
    both: int


@cache
def work(preset: str, protocol: str = "", modality: str = "") -> Work:
    """Of both encoders of a preset, or of one of them as a protocol evaluates it."""
    tree = presets.load(preset)
    if protocol:
        own = protocols.load(protocol).settings
        tree = merge(tree, {"video": own.get("video", {})})
    config = parse(tree)
    with torch.device("meta"):
        pair = build_pair(config)
        size = config.video.size
        clips = {
            "video": torch.empty(2, 3, config.video.frames, size, size),
            "audio": torch.empty(2, 1, config.audio.frames, config.audio.bands),
        }
    with FlopCounterMode(display=False) as forward:
        outputs = [
            encoder(clips[name])
            for name, encoder in pair.encoders.items()
            if modality in ("", name)
        ]
    with FlopCounterMode(display=False) as backward:
        torch.stack([x.sum() for x in outputs]).sum().backward()
    one, other = forward.get_total_flops(), backward.get_total_flops()
    return Work(forward=one // 2, both=(one + other) // 2)


def rate() -> float:
    """Operations a second of a measured step: all of its time counts."""
    step, clips, _ = step_speed()
    return float(step["operations"] / step["clips"] * clips)


def clip_work(plan: Plan) -> float:
    """Operations for each clip trained on: CM-ACC's key encoders and pool are among them."""
    own = work(plan.preset)
    if not isinstance(plan.config.method, MomentumConfig):
        return own.both
    return own.both + (1 + pool(plan)) * own.forward


def pool(plan: Plan) -> float:
    """Clips of CM-ACC's pool for each that is trained on."""
    method = plan.config.method
    return method.candidates / plan.epoch if isinstance(method, PoolConfig) else 0.0


def apart(plan: Plan) -> float:
    """GPU seconds beside the encoders: mining of positives, or the choice of negatives."""
    config = plan.config
    if plan.start:
        rounds = math.ceil(config.train.epochs / config.method.refresh)
        seconds = grown(load("mining_scale.gpu"), "exact, random", "seconds", plan.clips, least=2.0)
        return rounds * seconds
    if not isinstance(config.method, MomentumConfig):
        return 0.0
    worst = max(float(one["measured"]) for one in load("active_gpu")["targets"])
    # Each process chooses, for all of them the same.
    return GPUS * 1e-3 * worst * config.train.epochs * plan.epoch / config.train.batch


def hours(plan: Plan) -> float:
    """GPU hours of its own run."""
    trained = plan.config.train.epochs * plan.epoch
    return (trained * clip_work(plan) / rate() + apart(plan)) / 3600


def cores(plan: Plan) -> float:
    """That decode prepared clips for one GPU: measured ones, scaled by the pixels of a clip.

    Those of CM-ACC's pool are among them.
    """
    film, video = load("prepared"), plan.config.video
    measured = film["video"]["frames"] * film["video"]["size"] ** 2
    pixels = video.frames * video.size**2 / measured
    clips = (1 + pool(plan)) * rate() / clip_work(plan)
    return float(clips * pixels / film["clips_per_second"]["prepared"])


def film_bytes() -> float:
    """Of a second of prepared film."""
    film = load("prepared")["film"]
    return float(film["bytes"] / film["seconds"])


def preparing(clips: float) -> float:
    """Core seconds of preparing 10 s films of 426 × 240, as the page on preparing says."""
    return clips * CLIP * 0.05


def evaluation_hours(preset: str, task: tuple[str, str, str]) -> float | None:
    """GPU hours of all folds of a protocol that trains; None for those that do not."""
    name, modality, corpus = task
    protocol = protocols.load(name)
    if protocol.task == "svm":
        return None
    train = protocol.settings["train"]
    samples = train["epoch_samples"] or TRAINING["kinetics-400"]
    own = work(preset, name, modality)
    each = own.forward if protocol.task == "probe" else own.both
    return FOLDS.get(corpus, 1) * train["epochs"] * samples * each / rate() / 3600


def unprepared() -> float:
    """How many times as many cores films take as they are found."""
    speed = load("prepared")["clips_per_second"]
    return float(speed["prepared"] / speed["as found"])
