"""The scan's backends against the reference: outputs and all gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from distill.errors import UserError
from students.scan import chunked, explain_backend, selective_scan
from students.scan.operator import scan_forward

NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")


def problem(
    batch: int = 2,
    channels: int = 6,
    groups: int = 2,
    states: int = 3,
    length: int = 33,
    dtype: torch.dtype = torch.float64,
    stiffness: float = 3.0,
) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype)

    return {
        "u": normal(batch, channels, length),
        "delta": normal(batch, channels, length),
        "A": -stiffness * torch.rand(channels, states, generator=random, dtype=torch.float64),
        "B": normal(batch, groups, states, length),
        "C": normal(batch, groups, states, length),
        "D": normal(channels),
        "z": normal(batch, channels, length),
        "delta_bias": normal(channels),
    }


def run(backend: str, inputs: dict[str, Tensor], delta_softplus: bool = True) -> list[Tensor]:
    """Output, last state and the gradients of all inputs under a loss that reads both."""
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in inputs.items()}
    out, last = selective_scan(**leaves, delta_softplus=delta_softplus, return_last_state=True, backend=backend)
    loss = (out.double() ** 2).sum() + (last.double() ** 3).sum()
    return [out.detach(), last.detach(), *torch.autograd.grad(loss, list(leaves.values()))]


def assert_same(inputs: dict[str, Tensor], delta_softplus: bool = True, **tolerance: float) -> None:
    expected = run("reference", inputs, delta_softplus)
    assert all(torch.isfinite(tensor).all() for tensor in expected)
    names = ("out", "last", *(f"gradient of {name}" for name in inputs))
    for name, slow, fast in zip(names, expected, run("chunked", inputs, delta_softplus), strict=True):
        torch.testing.assert_close(fast, slow, msg=lambda text, name=name: f"{name}: {text}", **tolerance)


@pytest.mark.parametrize("length", [1, 2, 31, 33, 65, 197, 1023])
def test_equals_reference(length: int) -> None:
    assert_same(problem(length=length))


@pytest.mark.parametrize(("step", "block"), [(8, 64), (64, 256), (256, 1024), (2**14, 2**10)])
@pytest.mark.parametrize("length", [1, 33, 197])
def test_every_way_to_cut_is_the_same(monkeypatch: pytest.MonkeyPatch, step: int, block: int, length: int) -> None:
    monkeypatch.setitem(chunked._STEP_ELEMENTS, "cpu", step)
    monkeypatch.setitem(chunked._BLOCK_ELEMENTS, "cpu", block)
    assert_same(problem(batch=3, length=length))


def test_plans_cover_one_and_many_lanes_slabs_and_blocks() -> None:
    """The sizes above are only worth something if they reach every branch."""
    few = chunked.plan_blocks(2, 512, 16, 3, "cpu")
    long = chunked.plan_blocks(2, 512, 16, 4096, "cpu")
    many = chunked.plan_blocks(1, 16, 4, 4096, "cpu")
    assert few.lanes == 1
    assert long.lanes >= 8, "Python must not run once per token"
    assert long.blocks > 1
    assert many.lanes > 1
    assert chunked.plan_blocks(64, 4096, 16, 64, "cpu").channels < 4096
    for plan in (long, many):
        assert plan.tokens * (plan.blocks - 1) < 4096 <= plan.tokens * plan.blocks


@pytest.mark.parametrize("absent", ["D", "z", "delta_bias"])
@pytest.mark.parametrize("delta_softplus", [True, False])
def test_options(absent: str, delta_softplus: bool) -> None:
    inputs = problem()
    if not delta_softplus:
        inputs["delta"], inputs["delta_bias"] = inputs["delta"].abs() * 0.1, inputs["delta_bias"].abs() * 0.1
    inputs.pop(absent)
    assert_same(inputs, delta_softplus)


def test_three_dimensional_b_and_c_are_one_group() -> None:
    inputs = problem(groups=1)
    flat = inputs | {"B": inputs["B"][:, 0], "C": inputs["C"][:, 0]}
    assert torch.equal(selective_scan(**flat), selective_scan(**inputs))
    assert_same(flat)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stiff_decay_is_exact(dtype: torch.dtype) -> None:
    """exp(-320) per step: schemes that divide by the cumulated decay give NaN here."""
    inputs = problem(length=197, dtype=dtype)
    inputs["A"] = torch.full_like(inputs["A"], -64.0)
    inputs["delta"] = torch.linspace(0, 5, 197, dtype=dtype).expand(2, 6, 197)
    inputs.pop("delta_bias")
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-9}
    assert_same(inputs, delta_softplus=False, **tolerance)


@pytest.mark.parametrize("value", [0.0, 0.05])
def test_constant_and_growing_states(value: float) -> None:
    inputs = problem(length=65)
    inputs["A"] = torch.full_like(inputs["A"], value)
    assert_same(inputs)


@pytest.mark.parametrize("backend", ["chunked", "reference"])
def test_overflow_is_not_hidden(backend: str) -> None:
    inputs = problem(length=65, dtype=torch.float32)
    inputs["A"] = torch.full_like(inputs["A"], 30.0)
    inputs["delta"] = torch.ones_like(inputs["delta"])
    inputs.pop("delta_bias")
    assert not torch.isfinite(selective_scan(**inputs, backend=backend)[..., -1]).any()


def test_float32_against_float64() -> None:
    exact = problem(length=1023)
    single = {name: tensor.float() for name, tensor in exact.items()}
    for fast, slow in zip(run("chunked", single), run("reference", exact), strict=True):
        torch.testing.assert_close(fast.double(), slow, rtol=1e-4, atol=1e-4 * float(slow.abs().max()))


def test_bfloat16_in_and_out_with_float32_inside() -> None:
    inputs = problem(length=65, dtype=torch.bfloat16)
    exact = {name: tensor.double() for name, tensor in inputs.items()}
    for name, fast, slow in zip(("out", "last", *NAMES), run("chunked", inputs), run("reference", exact), strict=True):
        assert name == "last" or fast.dtype == inputs.get(name, inputs["u"]).dtype
        torch.testing.assert_close(fast.double(), slow, rtol=3e-2, atol=1e-2 * float(slow.abs().max()))


def test_autocast_does_not_reach_the_scan() -> None:
    inputs = problem(dtype=torch.float32)
    expected = run("chunked", inputs)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = run("chunked", inputs)
    for one, other in zip(expected, under_autocast, strict=True):
        assert torch.equal(one, other)


def test_any_strides() -> None:
    inputs = problem()
    strided = {
        name: tensor.transpose(0, -1).contiguous().transpose(0, -1) if tensor.dim() > 1 else tensor
        for name, tensor in inputs.items()
    }
    strided["B"] = torch.stack([inputs["B"], inputs["B"]], dim=-1)[..., 0]
    assert not strided["u"].is_contiguous()
    for one, other in zip(run("chunked", inputs), run("chunked", strided), strict=True):
        torch.testing.assert_close(one, other)


def test_empty_batch() -> None:
    results = run("chunked", problem(batch=0))
    assert results[0].shape == (0, 6, 33)
    assert results[4].abs().sum() == 0  # the gradient of A


def test_runs_are_bitwise_equal() -> None:
    inputs = problem(length=197, dtype=torch.float32)
    for one, other in zip(run("chunked", inputs), run("chunked", inputs), strict=True):
        assert torch.equal(one, other)


def test_gradcheck() -> None:
    inputs = [tensor.requires_grad_() for name, tensor in problem(length=5).items() if name != "z"]
    assert torch.autograd.gradcheck(lambda *x: scan_forward(*x, True, "chunked")[:2], inputs)


@pytest.mark.parametrize("options", [True, False])
def test_operator_passes_opcheck(options: bool) -> None:
    inputs = problem(length=13)
    inputs.pop("z")
    if not options:
        inputs |= {"D": None, "delta_bias": None}  # type: ignore[dict-item]
    tensors = [None if tensor is None else tensor.requires_grad_() for tensor in inputs.values()]
    torch.library.opcheck(torch.ops.distill.selective_scan.default, (*tensors, options, "chunked"))


def test_flops_are_three_multiply_adds_per_state_update() -> None:
    inputs = problem(batch=2, channels=6, states=3, length=33)
    with FlopCounterMode(display=False) as counter:
        selective_scan(**inputs)
    assert counter.get_total_flops() == 6 * 2 * 6 * 3 * 33


def test_thread_count_is_restored() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run("chunked", problem())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("u", torch.zeros(2, 6)),
        ("delta", torch.zeros(2, 6, 32)),
        ("A", torch.zeros(5, 3)),
        ("A", torch.zeros(6, 3, dtype=torch.complex64)),
        ("B", torch.zeros(2, 4, 3, 33)),
        ("B", torch.zeros(2, 3, 32)),
        ("C", torch.zeros(2, 1, 3, 33)),
        ("D", torch.zeros(7)),
        ("z", torch.zeros(2, 6, 33, dtype=torch.int64)),
        ("delta_bias", torch.zeros(6, 1)),
    ],
)
def test_bad_argument_is_named(name: str, value: Tensor) -> None:
    with pytest.raises(ValueError, match=f"^{name} ") as caught:
        selective_scan(**(problem() | {name: value}))
    assert "\n" not in str(caught.value)


def test_backend_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    def active() -> list[Any]:
        return [status.name for status in explain_backend() if status.active]

    assert active() == ["chunked"]
    monkeypatch.setenv("DISTILL_SCAN_BACKEND", "reference")
    assert active() == ["reference"]
    assert {status.name: status.reason for status in explain_backend()}["reference"] == "set by DISTILL_SCAN_BACKEND"
    monkeypatch.setenv("DISTILL_SCAN_BACKEND", "chunkd")
    with pytest.raises(UserError, match="did you mean chunked"):
        selective_scan(**problem())
