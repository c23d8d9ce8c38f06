"""Alignment, uniformity and effective rank against loops in float64 and closed forms."""

import math

import numpy as np
import pytest
import torch

from earsight.evaluation import checks, geometry
from earsight.evaluation.geometry import alignment, describe_geometry, effective_rank, uniformity


def vectors(count: int, dim: int, seed: int) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def unit(x: torch.Tensor) -> np.ndarray:
    wide = x.double().numpy()
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.0])
def test_alignment_equals_loop(alpha: float) -> None:
    x, y = vectors(17, 5, 0), vectors(17, 5, 1)
    pairs = zip(unit(x), unit(y), strict=True)
    expected = np.mean([np.linalg.norm(a - b) ** alpha for a, b in pairs])
    assert alignment(x, y, alpha) == pytest.approx(expected, rel=1e-6)


def test_alignment_at_its_ends() -> None:
    x = vectors(9, 4, 0)
    assert alignment(x, 3 * x) == pytest.approx(0, abs=1e-10)
    assert alignment(x, -x) == pytest.approx(4)


@pytest.mark.parametrize("t", [0.5, 2.0])
@pytest.mark.parametrize("rows", [4, 1000])
def test_uniformity_equals_loop(t: float, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "chunk_rows", lambda columns: rows)
    x = vectors(19, 5, 2)
    u = unit(x)
    terms = [
        math.exp(-t * np.sum((u[i] - u[j]) ** 2)) for i in range(19) for j in range(19) if i != j
    ]
    assert uniformity(x, t) == pytest.approx(math.log(np.mean(terms)), rel=1e-6)


def test_uniformity_at_its_ends() -> None:
    assert uniformity(torch.ones(50, 8)) == pytest.approx(0, abs=1e-6)
    assert uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8)
    # Random directions in many dimensions are orthogonal, nearly: log exp(−2·2).
    assert uniformity(vectors(400, 512, 0)) == pytest.approx(-4, abs=0.03)


def test_effective_rank_equals_formula() -> None:
    x = vectors(40, 6, 3) * torch.tensor([5.0, 3.0, 1.0, 0.5, 0.1, 0.0]) + 2
    for centred in (False, True):
        wide = x.double().numpy()
        wide = wide - wide.mean(0) if centred else wide
        sigma = np.linalg.svd(wide, compute_uv=False)
        p = sigma[sigma > 1e-9] / sigma.sum()
        expected = math.exp(-np.sum(p * np.log(p)))
        assert effective_rank(x, centred=centred) == pytest.approx(expected, rel=1e-6)


def test_effective_rank_at_its_ends() -> None:
    orthogonal = torch.linalg.qr(vectors(32, 7, 0))[0]
    assert effective_rank(orthogonal) == pytest.approx(7, rel=1e-6)
    assert effective_rank(torch.full((20, 5), 0.3)) == pytest.approx(1, abs=1e-5)
    assert effective_rank(torch.full((20, 5), 0.3), centred=True) == 0.0
    assert effective_rank(torch.zeros(20, 5)) == 0.0


def test_described_together() -> None:
    video, audio = vectors(20, 8, 0), vectors(20, 8, 1)
    scores = describe_geometry(
        {"video": video, "audio": audio}, {"video": vectors(20, 32, 2)}, [("video", "audio")]
    )
    assert set(scores) == {"video-audio", "video", "audio"}
    assert scores["video-audio"].values == {"alignment": alignment(video, audio)}
    assert set(scores["video"].metrics()) == {"uniformity", "effective_rank"}
    assert scores["audio"].as_dict() == {"uniformity": uniformity(audio), "n": 20}
    assert all(m.chance is None for m in scores["video"].metrics().values())


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="pair up"):
        alignment(torch.ones(3, 2), torch.ones(2, 2))
    with pytest.raises(ValueError, match="at least 2"):
        uniformity(torch.ones(1, 2))
    with pytest.raises(ValueError, match="diverged"):
        effective_rank(torch.tensor([[1.0, torch.inf]]))


def test_chunks_cover_every_row_once() -> None:
    rows = torch.arange(10)[:, None]
    for columns in (1, 2**22, 2**21, 2**30):
        assert torch.equal(torch.cat(list(checks.chunks(rows, columns))), rows)
    assert len(next(checks.chunks(rows, 2**22))) == 1
