from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from earsight.transforms.statistics import Statistics


def batches(sizes: list[int], bands: int = 5, seed: int = 0) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    scale, centre = rng.uniform(2, 20, bands), rng.uniform(-90, 20, bands)
    arrays = [rng.standard_normal((n, 1, 7, bands)) * scale + centre for n in sizes]
    return [torch.from_numpy(x.astype(np.float32)) for x in arrays]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_equals_numpy_on_everything_at_once(sizes: list[int], seed: int) -> None:
    made, parts = Statistics(5), batches(sizes, seed=seed)
    for part in parts:
        made.update(part)
    together = np.concatenate([p.double().numpy().reshape(-1, 5) for p in parts])
    mean, std = made.finish(floor=1e-3)
    np.testing.assert_allclose(mean.numpy(), together.mean(0), rtol=1e-6)
    np.testing.assert_allclose(std.numpy(), together.std(0), rtol=1e-6)
    np.testing.assert_allclose(made.mean.numpy(), together.mean(0), rtol=1e-13)
    assert (made.clips, made.frames) == (sum(sizes), 7 * sum(sizes))


def test_a_small_spread_far_from_zero_is_not_lost() -> None:
    rng = np.random.default_rng(0)
    made, seen = Statistics(1), []
    for _ in range(20):
        x = torch.from_numpy(1e6 + rng.standard_normal((4, 1, 3, 1)).astype(np.float32))
        seen.append(x.double().numpy().ravel())
        made.update(x)
    np.testing.assert_allclose(made.finish()[1].numpy(), np.concatenate(seen).std(), rtol=1e-6)


def test_dead_bands_get_the_floor() -> None:
    x = batches([8])[0]
    x[..., 2] = -100.0
    made = Statistics(5)
    made.update(x)
    mean, std = made.finish()
    assert std[2] == 1.0
    assert mean[2] == -100.0
    assert (std[[0, 1, 3, 4]] > 1.0).all()
    assert made.finish(floor=0.25)[1][2] == 0.25


def test_merge_and_state(tmp_path: Path) -> None:
    parts = batches([3, 5, 2, 4])
    whole, left, right = Statistics(5), Statistics(5), Statistics(5)
    for n, part in enumerate(parts):
        whole.update(part)
        (left if n < 2 else right).update(part)
    file = tmp_path / "statistics.pt"
    torch.save(right.state(), file)
    left.merge(Statistics.from_state(torch.load(file, weights_only=True)))
    left.merge(Statistics(5))
    torch.testing.assert_close(left.mean, whole.mean)
    torch.testing.assert_close(left.m2, whole.m2)
    assert (left.clips, left.frames) == (whole.clips, whole.frames) == (14, 98)


def test_continuing_from_a_state_changes_nothing() -> None:
    parts = batches([3, 5])
    straight, before = Statistics(5), Statistics(5)
    straight.update(parts[0])
    before.update(parts[0])
    after = Statistics.from_state(before.state())
    straight.update(parts[1])
    after.update(parts[1])
    assert all(torch.equal(after.state()[k], x) for k, x in straight.state().items())
    assert before.clips == 3


def test_bad_input_is_refused_and_nothing_taken_in() -> None:
    made = Statistics(5)
    with pytest.raises(ValueError, match="no clip with sound"):
        made.finish()
    made.update(torch.zeros(0, 1, 7, 5))
    x = batches([2])[0]
    x[1, 0, 3, 2] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        made.update(x)
    with pytest.raises(ValueError, match=r"give \(B, 1, frames, 5\)"):
        made.update(torch.zeros(2, 1, 7, 4))
    with pytest.raises(ValueError, match="4 bands cannot join those of 5"):
        made.merge(Statistics(4))
    with pytest.raises(ValueError, match="1 or more"):
        Statistics(0)
    assert (made.clips, made.frames) == (0, 0)
