"""Memory of a step: its parts counted by hand, its peak beside what the allocator gave out."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from earsight import api
from earsight.corpus.sources import Files
from earsight.training.memory import Held
from earsight.training.plan import Plan, with_size
from earsight.training.setup import build_parts, fit_inputs, open_data
from earsight.training.step import train_step

CPU = torch.device("cpu")
FLOAT = 4
CM_ACC = ("method.name=cm-acc", "method.dictionary=8", "method.pool=16", "method.temperature=0.5")


def prepared(corpus, small, *more):
    own = [s for s in small if "method." not in s] if CM_ACC[0] in more else small
    settings = [*own, "train.precision=float32", f"data.corpus={corpus}", *more]
    config = api.configure("tiny", settings=settings)
    data = open_data(config)
    plan = Plan.of(config, len(data.train))
    config = with_size(config, plan, len(data.train))
    parts = build_parts(config, fit_inputs(config, data, 0), len(data.train), CPU)
    parts.model.train()
    return config, parts, api.training_clips(config, data, plan, parts), len(data.train)


def held(config, parts, clips):
    with Held(parts) as looking:
        train_step(config, parts, iter([clips[n] for n in range(4)]), CPU, span=looking)
    return looking.memory(Files())


def sizes(module):
    return FLOAT * sum(p.numel() for p in module.parameters())


def test_parts_of_avid_counted_by_hand(corpus, small):
    config, parts, clips, rows = prepared(corpus, small)
    memory = held(config, parts, clips)
    buffers = sum(b.numel() * b.element_size() for b in parts.model.buffers())
    count = len(list(parts.model.parameters()))
    assert memory.weights == sizes(parts.model) + buffers
    assert memory.gradients == sizes(parts.model)
    # Two moments of each parameter, and a count of its steps.
    assert memory.optimizer == 2 * sizes(parts.model) + FLOAT * count
    # Two targets a row, whether it was visited, and Z̄.
    assert memory.method == rows * (2 * 8 * FLOAT + 1) + FLOAT
    video = 8 * 3 * 4 * 32 * 32
    audio = 8 * config.audio.frames * config.audio.bands
    assert memory.batch == FLOAT * (video + audio)
    assert memory.clips == 0


def test_momentum_encoders_dictionaries_and_pool_are_counted(corpus, small):
    config, parts, clips, _ = prepared(corpus, small, *CM_ACC, "method.momentum=0.9")
    memory = held(config, parts, clips)
    buffers = sum(b.numel() * b.element_size() for b in parts.model.buffers())
    # Entries have keys of both modalities and a row; each has the place of its oldest.
    entries = 2 * 8 + 16
    kept = entries * (2 * 8 * FLOAT + 8) + 3 * 8
    assert memory.method == sizes(parts.model) + buffers + kept


def test_activations_are_what_stands_when_the_backward_pass_begins():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    parts = SimpleNamespace(
        model=net, wrapped=net, method=nn.Module(), optimizer=torch.optim.Adam(net.parameters())
    )
    with Held(parts) as looking:
        looking("to the device")
        given = torch.randn(16, 4)
        loss = net(given).sum()
        net(given)  # what is made and dropped does not stand
        looking("backward")
        loss.backward()
        looking("optimiser")
        torch.zeros(10**6)
    memory = looking.memory(Files())
    assert memory.batch == 16 * 4 * FLOAT
    # The ReLU's output, which the second layer needs, and the loss.
    assert memory.activations == 16 * 8 * FLOAT + FLOAT
    assert memory.gradients == sizes(net)
    assert memory.peak < 10**5


def allocated(work):
    """Most bytes that torch's allocator gave out while ``work`` ran, beyond those before."""
    kind = torch._C._profiler._EventType.Allocation
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        work()
    found, left = [], list(profiler.profiler.kineto_results.experimental_event_tree())
    while left:
        event = left.pop()
        left += event.children
        if event.tag == kind:
            found.append((event.start_time_ns, event.extra_fields.alloc_size))
    now = most = 0
    for _, size in sorted(found, key=lambda one: one[0]):
        now += size
        most = max(most, now)
    return most


@pytest.mark.parametrize(
    "more",
    [(), ("train.accumulate=2",), (*CM_ACC, "method.momentum=0.9")],
    ids=["avid", "accumulated", "cm-acc"],
)
def test_the_peak_is_what_the_allocator_gives_out(corpus, small, more):
    wider = ["video_encoder.width=16", "video.size=64", "data.cache=memory"]
    config, parts, clips, _ = prepared(corpus, small, *wider, *more)
    memory = held(config, parts, clips)
    parts.optimizer.zero_grad(set_to_none=True)
    batches = iter([clips[n] for n in range(2)])
    most = allocated(lambda: train_step(config, parts, batches, CPU))
    standing = memory.weights + memory.optimizer + memory.method
    assert memory.peak == pytest.approx(standing + most, rel=0.1)
