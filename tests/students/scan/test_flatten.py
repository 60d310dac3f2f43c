"""Scans as plain sequences: views where nothing changes, zeros beyond the end of a row."""

import math

import pytest
import torch

from students.scan.flatten import factor_gradients, flatten, flatten_gradient, gate, gate_gradient, merge
from tests.students.scan.problems import Problem, build, cast


def test_a_sequence_stays_where_it_is() -> None:
    scan = cast(build(Problem(groups=2, initial_state=True)), torch.float32)
    flat = flatten(scan)
    for name in ("u", "delta", "A", "B", "C", "D", "delta_bias", "initial_state"):
        assert getattr(flat, name).data_ptr() == getattr(scan, name).data_ptr(), name
        assert getattr(flat, name).shape == getattr(scan, name).shape, name
    assert flat.z is None


def test_ungated_outputs_are_not_copied() -> None:
    scan = cast(build(Problem(gate=False)), torch.float32)
    y = torch.randn(scan.u.shape)
    out, ungated = merge(scan, y, training=True)
    assert out.data_ptr() == y.data_ptr()
    assert ungated.numel() == 0
    grad, grad_z = flatten_gradient(scan, out, ungated)
    assert grad.data_ptr() == out.data_ptr()
    assert grad_z is None


def test_gate_and_its_gradient() -> None:
    y, z = (torch.randn(2, 7, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    exact, grad = y * torch.nn.functional.silu(z), torch.randn(2, 7, 3, dtype=torch.float64)
    torch.testing.assert_close(gate(y.detach(), z.detach()), exact)
    found = gate_gradient(grad, z.detach(), y.detach())
    torch.testing.assert_close(found, torch.autograd.grad(exact, (y, z), grad))


def test_gradients_of_low_rank_factors() -> None:
    factor = torch.randn(2, 3, 7, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 5, 2, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(2, 3, 7, 5, dtype=torch.float64)
    found = factor_gradients(grad, factor.detach(), weight.detach())
    torch.testing.assert_close(found, torch.autograd.grad(factor @ weight.mT, (factor, weight), grad))


def test_gradients_of_gate_and_factors_are_computed_in_float32() -> None:
    grad, z, y = (torch.randn(2, 3, 7, 5) for _ in range(3))
    grad_y, grad_z = gate_gradient(grad[0].bfloat16(), z[0].bfloat16(), y[0])
    assert (grad_y.dtype, grad_z.dtype) == (torch.float32, torch.bfloat16)
    factor, weight = torch.randn(2, 3, 7, 2).bfloat16(), torch.randn(3, 5, 2)
    grad_factor, grad_weight = factor_gradients(grad, factor, weight)
    assert torch.equal(grad_factor, (grad @ weight).bfloat16())
    assert torch.equal(grad_weight, (grad.mT @ factor.float()).sum(0))


@pytest.mark.parametrize("softplus", [True, False])
def test_steps_beyond_a_row_leave_the_state(softplus: bool) -> None:
    scan = build(Problem(order="atrous", grid=(3, 3), rank=2, softplus=softplus))
    flat = flatten(scan)
    beyond = scan.order < 0
    assert beyond.any()
    assert (flat.delta[:, beyond] == (-math.inf if softplus else 0)).all()
    assert (flat.u[:, beyond] == 0).all()
    for x in (flat.B, flat.C):
        assert (x.transpose(2, 3)[:, beyond] == 0).all()
    assert flat.delta_bias is None
    assert flat.order is None
    assert flat.u.shape == (2, 4, 4, 6)
