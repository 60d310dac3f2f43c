"""mamba-ssm's kernel as a backend: how it is called, by a stand-in on any machine; what it computes, on a GPU."""

from collections.abc import Sequence
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from students.scan import causal_conv1d, convolution, mamba_cuda
from students.scan.problem import Scan, Traits
from students.scan.reference import scan_reference
from tests.students.scan.problems import DIFFERENTIABLE, Problem, assert_close, build, cast

REASON = mamba_cuda.obstacle(Traits("cuda"))
PROBLEMS = [
    Problem(),
    Problem(length=1, batch=1),
    Problem(groups=3, skip=False, gate=False, bias=False, softplus=False),
    Problem(order="bidirectional", grid=(5, 7), rank=2, mean=True),
    Problem(order="cross", grid=(3, 5), shared=False, groups=2),
    Problem(order="atrous", grid=(3, 5), rank=1),  # rows end in -1
]
LARGE = [
    Problem(channels=200, length=3136, states=16, groups=2),
    Problem(channels=15, length=2049, states=64, decay="stiff"),  # one step beyond a checkpoint
]


def compute(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, bias: Tensor | None, softplus: bool
) -> tuple[Tensor, Tensor]:
    """The kernel's forward pass, with its conditions on layouts and dtypes."""
    assert all(x.is_contiguous() and x.dtype == u.dtype for x in (u, delta, B, C))
    assert all(x is None or (x.is_contiguous() and x.dtype == torch.float32) for x in (A, D, bias))
    step = delta.float() if bias is None else delta.float() + bias[:, None]
    step = F.softplus(step) if softplus else step
    B, C = (x.float().repeat_interleave(u.shape[1] // x.shape[1], 1) for x in (B, C))
    state, outputs = u.new_zeros(*u.shape[:2], A.shape[1], dtype=torch.float32), []
    for t in range(u.shape[2]):
        entering = (step[..., t] * u[..., t].float())[..., None] * B[..., t]
        state = torch.exp(step[..., t, None] * A) * state + entering
        outputs.append((state * C[..., t]).sum(-1))
    y = torch.stack(outputs, 2)
    return (y if D is None else y + D[:, None] * u.float()).to(u.dtype), state


def stand_in_forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    bias: Tensor | None,
    softplus: bool,
) -> tuple[Tensor, Tensor]:
    assert z is None
    y, state = compute(u, delta, A, B, C, D, bias, softplus)
    starts = torch.zeros(*u.shape[:2], -(-u.shape[2] // 2048), 2 * A.shape[1])
    starts[:, :, -1, 1::2] = state
    return y, starts


def stand_in_backward(*arguments: object) -> Sequence[Tensor | None]:
    *inputs, z, bias, grad, starts, out, grad_z, softplus, recompute = arguments
    assert grad.is_contiguous()
    assert grad.dtype == inputs[0].dtype
    assert starts.is_contiguous()
    assert (z, out, grad_z, recompute) == (None, None, None, False)
    leaves = [None if x is None else x.detach().requires_grad_() for x in (*inputs, bias)]
    with torch.enable_grad():
        y, _ = compute(*leaves, softplus)
    found = iter(torch.autograd.grad(y, [x for x in leaves if x is not None], grad))
    return [None if x is None else next(found) for x in leaves]


def differentiate(scan: Scan, function: Any, last: bool) -> dict[str, Tensor]:
    """Output, last state and gradients under fixed gradients of the output and, if `last`, of the last state."""
    leaves = {
        name: x.detach().clone().requires_grad_() for name in DIFFERENTIABLE if (x := getattr(scan, name)) is not None
    }
    out, state, gradients = function(replace(scan, **leaves), leaves, last)
    found = dict(zip(leaves, gradients, strict=True))
    return {"out": out.detach(), "last_state": state.detach()} | found


def by_reference(scan: Scan, leaves: dict[str, Tensor], last: bool) -> tuple[Tensor, Tensor, Sequence[Tensor]]:
    out, state = scan_reference(scan)
    loss = (out * weights(out)).sum() + (state * weights(state)).sum() * last
    return out, state, torch.autograd.grad(loss, list(leaves.values()))


def by_kernel(scan: Scan, leaves: dict[str, Tensor], last: bool) -> tuple[Tensor, Tensor, Sequence[Tensor]]:
    with torch.no_grad():
        result = mamba_cuda.forward(scan, True)
        assert result.starts.shape == mamba_cuda.starts_shape(scan)
        grad_last = weights(result.last_state) if last else None
        found = mamba_cuda.backward(weights(result.out), grad_last, scan, result.ungated, result.starts)
    for field in fields(found):
        gradient, tensor = getattr(found, field.name), getattr(scan, field.name)
        assert (gradient is None) == (tensor is None)
        assert gradient is None or (gradient.shape, gradient.dtype) == (tensor.shape, tensor.dtype)
    return result.out, result.last_state, [getattr(found, name) for name in leaves]


def weights(x: Tensor) -> Tensor:
    """A gradient of its own for every entry, representable in any dtype."""
    return (torch.arange(x.numel(), device=x.device) % 7 - 3).view(x.shape).to(x.dtype)


def assert_equals_reference(
    problem: Problem, device: str, dtype: torch.dtype, tolerance: float, last: bool = False
) -> None:
    scan = build(problem)
    moved = {field.name: getattr(scan, field.name) for field in fields(scan)}
    moved = {name: x.to(device) if isinstance(x, Tensor) else x for name, x in moved.items()}
    found = differentiate(cast(Scan(**moved), dtype), by_kernel, last)
    assert_close({name: x.cpu() for name, x in found.items()}, differentiate(scan, by_reference, last), tolerance)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = SimpleNamespace(fwd=stand_in_forward, bwd=stand_in_backward)
    monkeypatch.setattr(mamba_cuda, "_kernel", lambda: kernel)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_calls_the_kernel_as_it_wants(problem: Problem) -> None:
    assert_equals_reference(problem, "cpu", torch.float32, 1e-4)
    assert_equals_reference(replace(problem, dtype=torch.bfloat16), "cpu", torch.bfloat16, 4e-2)


@pytest.mark.usefixtures("stand_in")
def test_last_state_has_a_gradient() -> None:
    assert_equals_reference(Problem(order="cross", grid=(3, 5), rank=2), "cpu", torch.float32, 1e-4, last=True)


def test_says_what_it_cannot_run() -> None:
    assert "cpu" in mamba_cuda.obstacle(Traits("cpu"))
    refused = {"double": "float64", "complex": "complex", "constant": "constant", "initial_state": "initial state"}
    for trait, word in refused.items():
        assert word in mamba_cuda.obstacle(Traits("cuda", **{trait: True}))


@pytest.mark.skipif(REASON != "", reason=f"mamba-ssm: {REASON}")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.float16, 1e-2), (torch.bfloat16, 5e-2)])
@pytest.mark.parametrize("problem", [*PROBLEMS, *LARGE], ids=str)
def test_equals_reference(problem: Problem, dtype: torch.dtype, tolerance: float) -> None:
    """In low precision the kernel rounds the output of every direction, and the gradients, to the input's dtype."""
    assert_equals_reference(replace(problem, dtype=dtype), "cuda", dtype, tolerance)
    assert_equals_reference(replace(problem, dtype=dtype), "cuda", dtype, tolerance, last=True)


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
