"""Single steps against the whole scan."""

from typing import Any

import pytest
import torch
from torch import Tensor

from students.scan import causal_conv1d, causal_conv1d_update, selective_scan_reference, selective_state_update


@pytest.mark.parametrize("groups", [None, 1, 3])
@pytest.mark.parametrize("complex", [False, True])
def test_steps_equal_the_scan(groups: int | None, complex: bool) -> None:
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    u, delta, z = (normal(2, 6, 9) for _ in range(3))
    A = -normal(6, 4).abs() + (1j * normal(6, 4) if complex else 0)
    shape = (2, 4, 9) if groups is None else (2, groups, 4, 9)
    B, C = (normal(*shape) + (1j * normal(*shape) if complex else 0) for _ in range(2))
    D, bias = normal(6), normal(6)
    state = normal(2, 6, 4) + (1j * normal(2, 6, 4) if complex else 0)
    # The whole scan reads complex weights with real and imaginary parts in turn.
    whole_B, whole_C = (torch.view_as_real(x).flatten(-2) if complex else x for x in (B, C))
    out, last = selective_scan_reference(u, delta, A, whole_B, whole_C, D, z, bias, True, initial_state=state)
    for t in range(9):
        token = [x[..., t] for x in (u, delta)]
        y = selective_state_update(state, *token, A, B[..., t], C[..., t], D, z[..., t], bias, True)
        torch.testing.assert_close(y, out[..., t])
    torch.testing.assert_close(state, last)


def test_options_are_optional_and_the_state_stays_in_float32() -> None:
    state = torch.zeros(2, 6, 4)
    u = torch.rand(2, 6, 1, dtype=torch.bfloat16)
    B = torch.rand(2, 4, 1, dtype=torch.bfloat16)
    A = -torch.rand(6, 4)
    y = selective_state_update(state, u[..., 0], u[..., 0], A, B[..., 0], B[..., 0])
    assert y.dtype == torch.bfloat16
    out, last = selective_scan_reference(u, u, A, B, B)
    torch.testing.assert_close(y, out[..., 0])
    torch.testing.assert_close(state, last)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("state", None),
        ("state", torch.zeros(2, 6, 0)),
        ("state", torch.zeros(2, 6, 4, dtype=torch.int64)),
        ("x", torch.ones(2, 6, dtype=torch.int64)),
        ("x", [1.0]),
        ("x", torch.zeros(2, 6, device="meta")),
        ("dt", torch.zeros(2, 6, dtype=torch.bool)),
        ("A", torch.zeros(6, 4, dtype=torch.int32)),
        ("A", torch.zeros(6, 4, device="meta")),
        ("B", torch.zeros(2, 4, dtype=torch.complex64)),
        ("B", torch.zeros(2, 1, 4, 1)),
        ("C", torch.zeros(2, 1, 4, dtype=torch.complex64)),
        ("C", None),
        ("z", torch.zeros(2, 6, dtype=torch.complex64)),
        ("dt_bias", 1.0),
        ("dt_bias", torch.zeros(6, device="meta")),
        ("state", torch.zeros(2, 6)),
        ("state", torch.zeros(2, 6, 4, dtype=torch.complex64)),
        ("x", torch.zeros(2, 5)),
        ("dt", torch.zeros(2, 6, 1)),
        ("A", torch.zeros(6)),
        ("B", torch.zeros(2, 5)),
        ("C", torch.zeros(2, 4, 4)),
        ("D", torch.zeros(5)),
        ("z", torch.zeros(1, 6)),
        ("dt_bias", torch.zeros(6, 1)),
    ],
)
def test_bad_argument_is_named(name: str, value: Any) -> None:
    good: dict[str, Any] = {
        "state": torch.zeros(2, 6, 4),
        "x": torch.zeros(2, 6),
        "dt": torch.zeros(2, 6),
        "A": torch.zeros(6, 4),
        "B": torch.zeros(2, 4),
        "C": torch.zeros(2, 4),
    }
    with pytest.raises(ValueError, match=f"^{name} ") as caught:
        selective_state_update(**(good | {name: value}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["state", "B", "C"])
def test_states_and_weights_of_a_complex_scan_are_complex(name: str) -> None:
    shapes = {"state": (2, 6, 4), "A": (6, 4), "B": (2, 4), "C": (2, 4)}
    states = {key: torch.zeros(shape, dtype=torch.complex64) for key, shape in shapes.items()}
    states[name] = states[name].real
    with pytest.raises(ValueError, match=f"^{name} is torch.float32, expected complex64 or complex128"):
        selective_state_update(**states, x=torch.zeros(2, 6), dt=torch.zeros(2, 6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("taps", [1, 2, 4])
@pytest.mark.parametrize("activation", [None, "silu"])
def test_steps_equal_the_convolution(taps: int, activation: str | None, dtype: torch.dtype) -> None:
    """With the weights in float32, from its final states on; a state may hold more tokens than the taps need."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 19, generator=random).to(dtype)
    weight, bias = torch.randn(6, taps, generator=random), torch.randn(6, generator=random)
    whole = causal_conv1d(x, weight, bias, activation)
    _, state = causal_conv1d(x[..., :9], weight, bias, activation, return_final_states=True)
    longer = torch.cat([x.new_zeros(2, 6, 2), state], dim=-1)
    rtol, atol = {torch.float32: (3e-4, 1e-3), torch.float16: (3e-3, 5e-3), torch.bfloat16: (1e-2, 5e-2)}[dtype]
    for t in range(9, 19):
        for kept in (state, longer):
            y = causal_conv1d_update(x[..., t], kept, weight, bias, activation)
            assert y.dtype == dtype
            torch.testing.assert_close(y, whole[..., t], rtol=rtol, atol=atol)
            assert torch.equal(kept[..., kept.shape[2] - taps + 1 :], x[..., t - taps + 2 : t + 1])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("x", (torch.zeros(2), torch.zeros(2, 6, 3))),
        ("conv_state", (torch.zeros(2, 6), torch.zeros(2, 6, 2))),
        ("conv_state", (torch.zeros(2, 6), torch.zeros(2, 6, 3).int())),
        ("weight", (torch.zeros(2, 5), torch.zeros(2, 5, 3))),
    ],
)
def test_bad_argument_of_a_convolution_step_is_named(name: str, arguments: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match=f"^{name} ") as caught:
        causal_conv1d_update(*arguments, torch.zeros(6, 4))
    assert "\n" not in str(caught.value)
