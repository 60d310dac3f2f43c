"""The reference against the closed form of the recurrence, and its own derivatives."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from students.scan import selective_scan_reference
from students.scan.problem import Scan
from students.scan.reference import scan_reference
from tests.students.scan.problems import DIFFERENTIABLE, Problem, build


def closed_form(scan: Scan) -> Tensor:
    """y_t = Σ_{s ≤ t} C_t exp(A (S_t - S_s)) B_s Δ_s u_s with S the cumulated Δ: a matrix over pairs of tokens."""
    delta = F.softplus(scan.delta + scan.delta_bias[:, None])[:, 0]
    S = delta.cumsum(1)
    past = torch.ones(scan.steps, scan.steps).tril()[None, :, :, None, None]
    decay = torch.exp((S[:, :, None] - S[:, None])[..., None] * scan.A[0] * past) * past
    B, C = (x[:, 0].repeat_interleave(scan.channels // scan.groups, 1).transpose(1, 2) for x in (scan.B, scan.C))
    y = torch.einsum("btdn,btsdn,bsdn,bsd->btd", C, decay, B, (delta * scan.u[:, 0]).to(B.dtype))
    y = (2 * y.real if y.is_complex() else y) + scan.D * scan.u[:, 0]
    return y * F.silu(scan.z)


@pytest.mark.parametrize("complex", [False, True])
def test_equals_the_closed_form(complex: bool) -> None:
    scan = build(Problem(length=21, groups=2, complex=complex))
    torch.testing.assert_close(scan_reference(scan)[0], closed_form(scan))


@pytest.mark.parametrize(
    "problem",
    [
        Problem(channels=2, length=4, initial_state=True, groups=2),
        Problem(channels=2, length=4, complex=True, constant_B=True, initial_state=True),
        Problem(channels=2, order="atrous", grid=(3, 3), rank=2, constant_C=True, mean=True),
    ],
    ids=str,
)
def test_gradcheck(problem: Problem) -> None:
    scan = build(problem)
    leaves = [None if (x := getattr(scan, n)) is None else x.clone().requires_grad_() for n in DIFFERENTIABLE]
    rest = (scan.order, scan.delta_softplus, scan.scale)
    assert torch.autograd.gradcheck(lambda *x: scan_reference(Scan(*x, *rest)), leaves)


def test_backward_time_is_linear_in_length() -> None:
    """Every step adds the same number of nodes to the graph, and no gradient the size of the whole sequence."""
    u = torch.randn(1, 2, 64, requires_grad=True)
    B = torch.randn(1, 3, 64)
    out, _ = selective_scan_reference(u, u.abs(), -torch.rand(2, 3), B, B)
    seen, ahead = set(), [out.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            ahead += [following for following, _ in node.next_functions]
    names = [node.name() for node in seen]
    assert names.count("UnbindBackward0") == 2
    assert not any("Select" in name or "Slice" in name for name in names)


def test_is_second_differentiable_and_deaf_to_autocast() -> None:
    scan = build(Problem(channels=2, order="cross", grid=(2, 2), rank=2))
    plain = scan_reference(scan)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(scan_reference(scan)[0], plain)
    u = torch.randn(1, 1, 3, dtype=torch.float64, requires_grad=True)
    B = torch.ones(1, 1, 3, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(
        lambda x: selective_scan_reference(x, x, -torch.ones(1, 1), B, B, delta_softplus=True)[0], [u]
    )
