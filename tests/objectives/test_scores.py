import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from earsight.objectives import scores as module
from earsight.objectives.scores import scores


def naive(queries, bank, rows, temperature):
    result = torch.zeros(*queries.shape[:2], rows.shape[1], dtype=torch.float64)
    for b in range(queries.shape[0]):
        for q in range(queries.shape[1]):
            for k in range(rows.shape[1]):
                products = queries[b, q].double() * bank[rows[b, k]].double()
                result[b, q, k] = products.sum() / temperature
    return result


@pytest.mark.parametrize("how", ["auto", "dense", "gather"])
@given(
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 2), st.integers(1, 6), st.integers(2, 60)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=10, deadline=None)
def test_equals_naive_loop_and_gradient_reaches_the_queries_alone(how, sizes, seed):
    batch, count, noise, size = sizes
    g = torch.Generator().manual_seed(seed)
    queries = torch.randn(batch, count, 4, generator=g).requires_grad_()
    bank = torch.randn(size, 4, generator=g).requires_grad_()
    rows = torch.randint(0, size, (batch, noise), generator=g)
    got = scores(queries, bank, rows, 0.07, how)
    torch.testing.assert_close(got.double(), naive(queries, bank, rows, 0.07), rtol=1e-4, atol=1e-4)
    upstream = torch.randn(got.shape, generator=g)
    got.backward(upstream)
    wanted = torch.einsum("bqk,bkd->bqd", upstream.double(), bank.detach().double()[rows]) / 0.07
    torch.testing.assert_close(queries.grad.double(), wanted, rtol=1e-4, atol=1e-4)
    assert bank.grad is None


def test_gathering_in_several_parts(monkeypatch):
    monkeypatch.setitem(module._GATHERED, "cpu", 2 * 3 * 4)
    torch.manual_seed(0)
    queries, bank = torch.randn(5, 1, 4, requires_grad=True), torch.randn(9, 4)
    rows = torch.randint(0, 9, (5, 3))
    gathered = scores(queries, bank, rows, 0.5, "gather")
    (slope,) = torch.autograd.grad(gathered.square().sum(), queries)
    dense = scores(queries, bank, rows, 0.5, "dense")
    (wanted,) = torch.autograd.grad(dense.square().sum(), queries)
    torch.testing.assert_close(gathered, dense)
    torch.testing.assert_close(slope, wanted)


@pytest.mark.parametrize("how", ["dense", "gather"])
def test_stay_float32_under_autocast(how):
    torch.manual_seed(0)
    queries, bank = torch.randn(4, 2, 16), torch.randn(30, 16)
    rows = torch.randint(0, 30, (4, 5))
    half = queries.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = scores(half, bank, rows, 0.07, how)
        got.sum().backward()
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, scores(half.float(), bank, rows, 0.07, how))
    assert half.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("how", ["dense", "gather"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_bank_of_half_precision_is_widened_before_products_are_made(how, dtype):
    torch.manual_seed(0)
    queries, bank = torch.randn(4, 2, 16, requires_grad=True), torch.randn(30, 16).to(dtype)
    rows = torch.randint(0, 30, (4, 5))
    got = scores(queries, bank, rows, 0.07, how)
    wanted = scores(queries, bank.float(), rows, 0.07, how)
    assert got.dtype == torch.float32
    assert torch.equal(got, wanted)
    slopes = [torch.autograd.grad(x.square().sum(), queries)[0] for x in (got, wanted)]
    assert torch.equal(*slopes)


def test_the_kernel_refuses_double_precision():
    bank = torch.zeros(3, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match="take gather"):
        scores(torch.zeros(1, 1, 4), bank, torch.zeros(1, 2, dtype=torch.int64), 1.0, "triton")
