"""Scans as plain sequences: views where nothing changes, zeros beyond the end of a row."""

import math

import pytest
import torch

from students.scan.flatten import flatten, flatten_gradient, merge
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
