import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from earsight.selection.agreement import mine

pytest.importorskip("faiss")
from earsight.selection import certified as module
from earsight.selection.certified import CertifiedIndex


def banks(n, dim, spread, seed):
    """Clusters of one size, or no clusters where ``spread`` is infinite."""
    generator = torch.Generator().manual_seed(seed)
    of = torch.randint(0, 12, (n,), generator=generator)
    found = []
    for _ in "va":
        centre = torch.randn(12, dim, generator=generator)[of]
        noise = torch.randn(n, dim, generator=generator)
        found.append(F.normalize(noise if spread == torch.inf else centre + spread * noise, dim=1))
    return found


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(module, "_SCANNED", 32)
    monkeypatch.setattr(module, "_QUERIES", 16)


@given(
    seed=st.integers(0, 10**6),
    spread=st.sampled_from([0.0, 0.02, 0.1, 0.3, 1.0, torch.inf]),
    dim=st.sampled_from([2, 8, 24]),
    k=st.integers(1, 9),
    budget=st.sampled_from([0.0, 0.05, 0.2, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_certificates_are_never_wrong(seed, spread, dim, k, budget):
    video, audio = banks(400, dim, spread, seed)
    usable = torch.arange(400) % 11 != 3
    index = CertifiedIndex(video, audio, usable=usable, cells=25)
    found = index.mine(k, budget=budget)
    exact = mine(video, audio, k, usable=usable)
    assert torch.equal(found.mined.rows[found.certified], exact.rows[found.certified])
    assert torch.equal(found.mined.agreement[found.certified], exact.agreement[found.certified])
    finished = index.finish(found, k)
    assert torch.equal(finished.rows, exact.rows)
    assert torch.equal(finished.agreement, exact.agreement)
    if budget == 1.0 and spread in (1.0, torch.inf):
        assert found.share == 1.0


def test_plain_probing_is_wrong_where_certificates_are_withheld():
    video, audio = banks(600, 24, torch.inf, 1)
    index = CertifiedIndex(video, audio, cells=30)
    found, exact = index.mine(5, budget=0.1), mine(video, audio, 5)
    wrong = (found.mined.rows != exact.rows).any(dim=1)
    assert wrong.sum() > 100
    assert not (wrong & found.certified).any()


def test_clusters_are_certified_after_few_rows():
    video, audio = banks(600, 24, 0.1, 1)
    found = CertifiedIndex(video, audio, cells=30).mine(5, budget=0.5)
    assert found.share > 0.9
    assert found.looked_at.double().mean() < 300


@given(seed=st.integers(0, 10**6), dim=st.sampled_from([1, 3, 16]))
@settings(max_examples=20, deadline=None)
def test_bounds_hold_for_every_row_of_a_cell(seed, dim):
    video, audio = banks(200, dim, 0.3, seed)
    index = CertifiedIndex(video, audio, cells=12)
    queries = torch.arange(200)
    products = torch.minimum(video.double() @ video.double().T, audio.double() @ audio.double().T)
    for space in index.spaces:
        bound = space.bounds(queries)[:, index.cell]
        assert (products <= bound).all()


def test_a_part_of_the_queries():
    video, audio = banks(300, 16, 0.2, 2)
    usable = torch.arange(300) != 7
    index = CertifiedIndex(video, audio, usable=usable, cells=10)
    queries = torch.tensor([299, 7, 0, 0])
    found = index.mine(3, queries=queries, budget=0.0)
    assert found.certified[1]
    assert found.mined.rows[1].tolist() == [-1, -1, -1]
    finished = index.finish(found, 3, queries=queries)
    assert torch.equal(finished.rows, mine(video, audio, 3, usable=usable, queries=queries).rows)


def test_absent_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    video, audio = banks(100, 8, 1.0, 3)
    with pytest.raises(ValueError, match=r"earsight\[faiss\]"):
        CertifiedIndex(video, audio)


def test_bad_input():
    video, audio = banks(100, 8, 1.0, 3)
    with pytest.raises(ValueError, match="k must be"):
        CertifiedIndex(video, audio, cells=4).mine(100)
    video[3] = torch.nan
    with pytest.raises(ValueError, match="1 rows of the video bank"):
        CertifiedIndex(video, audio)
