"""`selective_scan_2d` against single directions, each gathered, scanned by the reference and scattered back."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from distill.errors import UserError
from students.scan import scan_order, selective_scan_2d, selective_scan_reference

HEIGHT, WIDTH, CHANNELS, STATES, RANK = 3, 5, 4, 2, 3
RAGGED = torch.tensor([[14, 3, 0, 7, 1], [2, 9, -1, -1, -1]])


def arguments(
    directions: int, shared: bool = True, rank: int = 0, own: bool = True, gate: bool = True, complex: bool = False
) -> dict[str, Any]:
    random = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    def states(*shape: int) -> Tensor:
        return torch.complex(normal(*shape), normal(*shape)) if complex else normal(*shape)

    pixels = (2, HEIGHT, WIDTH)
    K = (directions,) if own else ()
    return {
        "u": normal(*pixels, CHANNELS) if shared else normal(*pixels, directions, CHANNELS),
        "delta": normal(*pixels, directions, rank or CHANNELS),
        "A": -states(*K, CHANNELS, STATES).abs() * (1 + (0.5j if complex else 0)),
        "B": states(*pixels, directions, STATES),
        "C": states(*pixels, directions, STATES),
        "D": normal(*K, CHANNELS),
        "z": normal(*pixels, CHANNELS) if gate else None,
        "delta_bias": normal(*K, CHANNELS),
        "delta_weight": normal(directions, CHANNELS, rank) if rank else None,
    }


def one_by_one(order: Tensor, merge: str, inputs: dict[str, Any]) -> Tensor:
    """The reference implementation."""
    u, z, weight = inputs["u"], inputs["z"], inputs["delta_weight"]
    total = u.new_zeros(len(u), HEIGHT * WIDTH, CHANNELS)
    for k, row in enumerate(order.long()):
        row = row[row >= 0]

        def visit(x: Tensor, row: Tensor = row) -> Tensor:
            return x.flatten(1, 2)[:, row].transpose(1, 2)

        def weights(x: Tensor, k: int = k) -> Tensor:
            x = visit(x[..., k, :])
            return torch.view_as_real(x).flatten(-2) if x.is_complex() else x

        delta = inputs["delta"][..., k, :]
        delta = delta if weight is None else delta @ weight[k].T
        A, D, bias = (
            x if x.dim() == rank else x[k]
            for x, rank in ((inputs["A"], 2), (inputs["D"], 1), (inputs["delta_bias"], 1))
        )
        y, _ = selective_scan_reference(
            visit(u if u.dim() == 4 else u[..., k, :]), visit(delta), A, weights(inputs["B"]), weights(inputs["C"]), D,
            delta_bias=bias, delta_softplus=True,
        )  # fmt: skip
        total = total.index_add(1, row, y.mT)
    total = (total / len(order) if merge == "mean" else total).unflatten(1, (HEIGHT, WIDTH))
    return total if z is None else total * F.silu(z)


@pytest.mark.parametrize("backend", ["chunked", "reference"])
@pytest.mark.parametrize(
    ("order", "options"),
    [
        ("raster", {}),
        ("raster", {"shared": False, "rank": RANK, "own": False}),
        ("bidirectional", {"own": False, "rank": RANK, "merge": "mean"}),
        ("cross", {"merge": "mean", "gate": False}),
        ("cross", {"shared": False, "rank": RANK}),
        ("snake", {"complex": True}),
        ("window:2", {"rank": RANK}),
        ("atrous", {"rank": RANK, "merge": "mean"}),
        ("atrous", {"shared": False, "own": False}),
        (RAGGED, {"rank": RANK}),
        (RAGGED.int(), {"shared": False, "complex": True}),
    ],
)
def test_equals_one_direction_after_the_other(order: str | Tensor, options: dict[str, Any], backend: str) -> None:
    options = dict(options)
    merge = options.pop("merge", "sum")
    table = scan_order(order, HEIGHT, WIDTH) if isinstance(order, str) else order
    inputs = arguments(len(table), **options)
    leaves = {name: None if x is None else x.requires_grad_() for name, x in inputs.items()}
    found = selective_scan_2d(**leaves, delta_softplus=True, order=order, merge=merge, backend=backend)
    exact = one_by_one(table, merge, leaves)
    torch.testing.assert_close(found, exact)
    weight = torch.randn_like(exact)
    given = [x for x in leaves.values() if x is not None]
    for one, other in zip(
        torch.autograd.grad(found, given, weight), torch.autograd.grad(exact, given, weight), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_tokens_that_no_direction_visits_are_zero() -> None:
    out = selective_scan_2d(**arguments(2, gate=False), order=RAGGED).flatten(1, 2)
    visited = RAGGED[RAGGED >= 0]
    rest = [token for token in range(HEIGHT * WIDTH) if token not in visited.tolist()]
    assert out[:, rest].abs().sum() == 0
    assert (out[:, visited].abs() > 0).all()


def test_inputs_are_views_and_the_output_is_contiguous() -> None:
    """An image in channels-last memory is scanned where it lies."""
    inputs = {name: None if x is None else x.float() for name, x in arguments(2).items()}
    maps = inputs["u"].permute(0, 3, 1, 2)
    assert maps.is_contiguous(memory_format=torch.channels_last)
    out = selective_scan_2d(**(inputs | {"u": maps.permute(0, 2, 3, 1)}), order="bidirectional")
    assert torch.equal(out, selective_scan_2d(**inputs, order="bidirectional"))
    assert out.is_contiguous()
    assert out.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("u", torch.zeros(2, 15, CHANNELS)),
        ("u", torch.zeros(2, HEIGHT, WIDTH, 3, CHANNELS)),
        ("u", torch.zeros(2, HEIGHT, WIDTH, CHANNELS, dtype=torch.int64)),
        ("u", [1]),
        ("delta", torch.zeros(2, HEIGHT, WIDTH, 2, CHANNELS + 1)),
        ("delta", torch.zeros(2, HEIGHT, WIDTH, CHANNELS)),
        ("delta_weight", torch.zeros(2, RANK, CHANNELS)),
        ("delta_weight", torch.zeros(1, CHANNELS, RANK)),
        ("A", torch.zeros(3, CHANNELS, STATES)),
        ("A", torch.zeros(CHANNELS)),
        ("B", torch.zeros(2, HEIGHT, WIDTH, 1, STATES)),
        ("B", torch.zeros(2, HEIGHT, WIDTH, 2, STATES, dtype=torch.complex64)),
        ("C", torch.zeros(2, HEIGHT, WIDTH, 2, STATES + 1)),
        ("D", torch.zeros(3, CHANNELS)),
        ("z", torch.zeros(2, HEIGHT, WIDTH, 2, CHANNELS)),
        ("z", torch.zeros(2, HEIGHT, WIDTH, CHANNELS, device="meta")),
        ("delta_bias", torch.zeros(CHANNELS, 1)),
        ("merge", "max"),
        ("order", None),
        ("order", torch.zeros(2, 15)),
        ("order", torch.zeros(15, dtype=torch.int32)),
        ("order", torch.zeros(2, 0, dtype=torch.int32)),
        ("order", torch.tensor([[0, 1], [2, 15]])),
        ("order", torch.tensor([[0, 1], [-2, 3]])),
        ("order", torch.tensor([[0, 1, 2], [3, -1, 4]])),
        ("order", torch.tensor([[0, 1, 2], [3, 4, 3]])),
    ],
)
def test_bad_argument_is_named(name: str, value: Any) -> None:
    inputs = arguments(2) | {"order": "bidirectional"}
    with pytest.raises(ValueError, match=f"^{name} ") as caught:
        selective_scan_2d(**(inputs | {name: value}))
    assert "\n" not in str(caught.value)


def test_unknown_order() -> None:
    with pytest.raises(UserError, match="did you mean cross"):
        selective_scan_2d(**arguments(4), order="cros")
    with pytest.raises(UserError, match="does not fit a grid of 3 x 5 tokens"):
        selective_scan_2d(**arguments(4), order="atrous:999999")


def test_the_name_of_a_wrong_order_says_what_is_wrong() -> None:
    inputs = arguments(2)
    with pytest.raises(ValueError, match="order visits token 3 2 times in row 1"):
        selective_scan_2d(**inputs, order=torch.tensor([[0, 1, 2], [3, 4, 3]]))
    with pytest.raises(ValueError, match="order has a token after a -1"):
        selective_scan_2d(**inputs, order=torch.tensor([[0, 1, 2], [3, -1, 4]]))
    with pytest.raises(ValueError, match="entries from 0 to 15, expected tokens from 0 to 14"):
        selective_scan_2d(**inputs, order=torch.tensor([[0, 1], [2, 15]]))
