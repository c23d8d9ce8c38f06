"""The GPU's scores in Triton's interpreter, which must be chosen before Triton is imported."""

import os
import subprocess
import sys

import pytest
import torch

from earsight.objectives.scores import scores

pytest.importorskip("triton")

CODE = """
import torch
from earsight.objectives import scores_triton
from earsight.objectives.scores import scores

# B, Q, D, K, N: no powers of two, one of everything, more rows than one program adds up, and more
# dimensions than one holds.
cases = [
    (3, 1, 20, 33, 50), (2, 2, 128, 300, 4000), (1, 3, 100, 1, 2), (4, 1, 1, 7, 1),
    (2, 2, 200, 65, 30), (1, 1, 64, 513, 100),
]
for number, (batch, asked, dim, count, size) in enumerate(cases):
    generator = torch.Generator().manual_seed(number)
    queries = torch.randn(batch, asked, dim, generator=generator)
    rows = torch.randint(0, size, (batch, count), generator=generator)
    rows[:, count // 2 :] = rows[:, : count - count // 2].clone()
    upstream = torch.randn(batch, asked, count, generator=generator)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        bank = torch.randn(size, dim, generator=generator).to(dtype).requires_grad_()
        found = {}
        for how in ("gather", "triton"):
            x = queries.clone().requires_grad_()
            s = scores(x, bank, rows, 0.07, how)
            s.backward(upstream)
            assert s.dtype == torch.float32 and bank.grad is None
            found[how] = s.detach(), x.grad
        exact = bank.detach().double()[rows]
        wanted = (
            torch.einsum("bqd,bkd->bqk", queries.double(), exact) / 0.07,
            torch.einsum("bqk,bkd->bqd", upstream.double(), exact) / 0.07,
        )
        for ours, reference, true in zip(found["triton"], found["gather"], wanted):
            torch.testing.assert_close(ours, reference, rtol=1e-5, atol=2e-3)
            error, allowed = (ours - true).abs().max(), 2 * (reference - true).abs().max() + 1e-5
            assert error <= max(allowed, 1e-6 * true.abs().max()), (error, allowed)

# Under autocast, with half precision and strides as an encoder gives them.
x = torch.randn(2, 4, 16).transpose(0, 1).bfloat16().requires_grad_()
bank, rows = torch.randn(9, 16), torch.randint(0, 9, (4, 5))
with torch.autocast("cpu", dtype=torch.bfloat16):
    s = scores(x, bank, rows, 0.5, "triton")
s.sum().backward()
assert s.dtype == torch.float32 and x.grad.dtype == torch.bfloat16
torch.testing.assert_close(s, scores(x.detach(), bank, rows, 0.5, "gather"))
for shape in ((1, 128), (8, 100), (3, 1)):
    few, height, width = scores_triton._tile(*shape)
    assert few * height * width <= scores_triton._NUMBERS
print("equal")
"""


def test_fused_scores_equal_the_torch_path():
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", CODE]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "equal"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [2_000, 1_000_000])
def test_fused_scores_equal_the_torch_path_on_a_gpu(dtype, size):
    generator = torch.Generator("cuda").manual_seed(0)
    queries = torch.randn(16, 2, 128, generator=generator, device="cuda")
    bank = torch.randn(size, 128, generator=generator, device="cuda").to(dtype)
    rows = torch.randint(0, size, (16, 1025), generator=generator, device="cuda")
    upstream = torch.randn(16, 2, 1025, generator=generator, device="cuda")
    found = {}
    for how in ("gather", "triton"):
        x = queries.clone().requires_grad_()
        s = scores(x, bank, rows, 0.07, how)
        s.backward(upstream)
        found[how] = s.detach(), x.grad
    for ours, reference in zip(found["triton"], found["gather"], strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-3 * float(reference.std()))


COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from earsight.objectives import scores_triton as kernels

for dtype, asked, dim in (("fp32", 1, 128), ("bf16", 2, 100), ("fp16", 3, 300)):
    few, height, width = kernels._tile(asked, dim)
    sizes = {"dim": dim, "asked": asked, "few": few, "height": height, "width": width}
    for kernel, first, more in (
        (kernels._products, "queries", {}), (kernels._slopes, "gradient", {"share": 256})
    ):
        types = {first: "*fp32", "bank": f"*{dtype}", "rows": "*i64", "out": "*fp32"}
        fixed = {**sizes, **more}
        signature = {**types, "count": "i32", **dict.fromkeys(fixed, "constexpr")}
        source = ASTSource(fn=kernel, signature=signature, constexprs=fixed)
        assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]
print("compiled")
"""


def test_kernels_compile_for_a_gpu(tmp_path):
    """The interpreter forgives what the compiler refuses; to compile takes no GPU."""
    environment = {
        **os.environ,
        "TRITON_CACHE_DIR": str(tmp_path),
        "TRITON_DEFAULT_FP_FUSION": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-W", "error", "-c", COMPILED]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "compiled"
