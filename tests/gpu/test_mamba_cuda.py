"""mamba-ssm's kernel as a backend and causal-conv1d's as a convolution, on a GPU."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from students.scan import causal_conv1d, convolution, mamba_cuda
from students.scan.problem import Traits
from tests.students.scan.problems import IMAGES, OPTIONS, Problem, check

REASON = mamba_cuda.obstacle(Traits("cuda"))
PROBLEMS = [
    *(p for p in (*OPTIONS, *IMAGES) if not (p.complex or p.constant_C or p.initial_state)),
    Problem(length=1, batch=1),
    Problem(channels=200, length=3136, states=16, groups=2),
    Problem(channels=15, length=2049, states=64, decay="stiff"),  # one step beyond a checkpoint
]


@pytest.mark.skipif(REASON != "", reason=f"mamba-ssm: {REASON}")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.float16, 1e-2), (torch.bfloat16, 5e-2)])
@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_equals_reference(problem: Problem, dtype: torch.dtype, tolerance: float) -> None:
    """In low precision the kernel rounds the output of every direction, and the gradients, to the input's dtype."""
    for last in (False, True):
        check(replace(problem, dtype=dtype), dtype, "mamba-ssm", "cuda", last=last, tolerance=tolerance)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("length", [1, 3, 129, 1023])
@pytest.mark.parametrize("taps", [2, 3, 4])
@pytest.mark.parametrize("activation", [None, "silu"])
def test_causal_conv1d_equals_pytorch(length: int, taps: int, activation: str | None) -> None:
    if convolution._cuda_kernel() is None:
        pytest.skip("causal-conv1d is not installed")
    random = torch.Generator().manual_seed(length)
    leaves = [torch.randn(*shape, generator=random).cuda() for shape in ((2, 40, length), (40, taps), (40,))]
    x, weight, bias = (leaf.requires_grad_() for leaf in leaves)
    found = causal_conv1d(x, weight, bias, activation)
    expected = F.conv1d(F.pad(x, (taps - 1, 0)), weight[:, None], bias, groups=40)
    expected = expected if activation is None else F.silu(expected)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    grad = torch.randn(expected.shape, generator=random).cuda()
    for a, b in zip(torch.autograd.grad(found, leaves, grad), torch.autograd.grad(expected, leaves, grad), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
