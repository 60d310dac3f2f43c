"""`selective_scan`: its layouts, its messages, and the choice of a backend."""

import subprocess
import sys
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.errors import UserError
from students.scan import explain_backend, selective_scan, selective_scan_reference
from students.scan.backends import BACKENDS, VARIABLE, _notice, choose_backend
from students.scan.errors import ScanArgumentError
from students.scan.layout import from_channel_first
from students.scan.problem import Traits

NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")


def arguments(groups: int | None = 2, complex: bool = False, constant: bool = False) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    length = 66 if complex else 33
    shape = (2, 3, length) if groups is None else (2, groups, 3, length)
    A = -normal(6, 3).abs() + (1j * normal(6, 3) if complex else 0)
    return {
        "u": normal(2, 6, 33),
        "delta": normal(2, 6, 33),
        "A": A,
        "B": A * 0.3 if constant else normal(*shape),
        "C": normal(*shape),
        "D": normal(6),
        "z": normal(2, 6, 33),
        "delta_bias": normal(6),
    }


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("complex", [False, True])
@pytest.mark.parametrize("groups", [None, 2, 6])
def test_layouts(groups: int | None, complex: bool, constant: bool) -> None:
    """Written out: the recurrence of one channel, in mamba-ssm's layouts."""
    inputs = arguments(groups, complex, constant)
    out, last = selective_scan(**inputs, delta_softplus=True, return_last_state=True)
    batch, channel = 1, 4
    group = 0 if groups is None else channel // (6 // groups)

    def weights(name: str, t: int) -> Tensor:
        x = inputs[name]
        if x.dim() == 2:
            return x[channel]
        x = x[batch] if groups is None else x[batch, group]
        return x[:, 2 * t] + 1j * x[:, 2 * t + 1] if complex else x[:, t]

    u, z = inputs["u"][batch, channel], inputs["z"][batch, channel]
    delta = torch.nn.functional.softplus(inputs["delta"][batch, channel] + inputs["delta_bias"][channel])
    state = torch.zeros(3, dtype=inputs["A"].dtype)
    for t in range(33):
        state = (delta[t] * inputs["A"][channel]).exp() * state + delta[t] * u[t] * weights("B", t)
        y = (weights("C", t) * state).sum()
        y = (2 * y.real if complex else y) + inputs["D"][channel] * u[t]
        torch.testing.assert_close(out[batch, channel, t], y * torch.nn.functional.silu(z[t]))
    torch.testing.assert_close(last[batch, channel], state)


def test_options_default_to_absent() -> None:
    inputs = {name: arguments()[name] for name in ("u", "delta", "A", "B", "C")}
    inputs["delta"] = inputs["delta"].abs() * 0.1
    out, last = selective_scan(**inputs, return_last_state=True)
    exact, exact_last = selective_scan_reference(**inputs)
    torch.testing.assert_close(out, exact)
    torch.testing.assert_close(last, exact_last)
    assert torch.equal(selective_scan(**inputs), out)


def test_arguments_are_positional_as_in_mamba_ssm() -> None:
    inputs = arguments()
    out, last = selective_scan(*(inputs[name] for name in NAMES), True, True)
    exact, _ = selective_scan_reference(**inputs, delta_softplus=True)
    torch.testing.assert_close(out, exact)
    assert last.shape == (2, 6, 3)


def test_a_sequence_can_be_scanned_in_pieces() -> None:
    inputs = arguments()
    whole, last = selective_scan(**inputs, delta_softplus=True, return_last_state=True)
    state, pieces = None, []
    for first, end in ((0, 10), (10, 11), (11, 33)):
        cut = {name: x[..., first:end] if name in ("u", "delta", "B", "C", "z") else x for name, x in inputs.items()}
        out, state = selective_scan(**cut, delta_softplus=True, return_last_state=True, initial_state=state)
        pieces.append(out)
    torch.testing.assert_close(torch.cat(pieces, -1), whole)
    torch.testing.assert_close(state, last)


def test_tensors_are_not_copied() -> None:
    inputs = arguments()
    state = torch.zeros(2, 6, 3)
    scan = from_channel_first(*(inputs[name] for name in NAMES), True, state)
    for name, x in (inputs | {"initial_state": state}).items():
        assert getattr(scan, name).data_ptr() == x.data_ptr(), name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["u", "B", "A"])
def test_dtypes_may_be_mixed(name: str, dtype: torch.dtype) -> None:
    """What is not `u` is read in the dtype of the computation, however it is given."""
    inputs = {key: x.float() for key, x in arguments().items()}
    inputs[name] = inputs[name].to(dtype)
    found = selective_scan(**inputs, delta_softplus=True, return_last_state=True)
    exact = selective_scan_reference(**{key: x.double() for key, x in inputs.items()}, delta_softplus=True)
    assert found[0].dtype == inputs["u"].dtype
    assert found[1].dtype == (torch.float64 if inputs["u"].dtype == torch.float64 else torch.float32)
    for one, other, kept in zip(found, exact, (inputs["u"].dtype, found[1].dtype), strict=True):
        tolerance = {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float32: 1e-5, torch.float64: 1e-12}[kept]
        torch.testing.assert_close(one.double(), other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("u", torch.zeros(2, 6)),
        ("u", torch.zeros(2, 6, 0)),
        ("u", torch.zeros(2, 6, 33, dtype=torch.int32)),
        ("u", None),
        ("delta", torch.zeros(2, 6, 32)),
        ("delta", torch.zeros(2, 6, 33, dtype=torch.bool)),
        ("A", torch.zeros(5, 3)),
        ("A", torch.zeros(6)),
        ("A", torch.zeros(6, 3, dtype=torch.int64)),
        ("A", 1.0),
        ("B", torch.zeros(2, 4, 3, 33)),
        ("B", torch.zeros(2, 3, 32)),
        ("B", torch.zeros(2, 0, 3, 33)),
        ("B", torch.zeros(6, 4)),
        ("B", torch.zeros(33)),
        ("B", torch.zeros(6, 3, dtype=torch.complex64)),
        ("B", torch.zeros(2, 2, 3, 33, dtype=torch.complex64)),
        ("C", torch.zeros(2, 1, 3, 33)),
        ("C", torch.zeros(2, 2, 4, 33)),
        ("D", torch.zeros(7)),
        ("D", torch.zeros(6, device="meta")),
        ("z", torch.zeros(2, 6, 33, dtype=torch.int64)),
        ("z", torch.zeros(2, 33, 6)),
        ("delta_bias", torch.zeros(6, 1)),
        ("delta_bias", torch.zeros(6, dtype=torch.complex64)),
        ("initial_state", torch.zeros(2, 3, 6)),
        ("initial_state", torch.zeros(2, 6, 3, dtype=torch.complex64)),
    ],
)
def test_bad_argument_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} ") as caught:
        selective_scan(**(arguments() | {name: value}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("B", torch.zeros(2, 2, 3, 33)),
        ("B", torch.zeros(6, 3)),
        ("C", torch.zeros(2, 2, 3, 66, dtype=torch.complex64)),
        ("initial_state", torch.zeros(2, 6, 3)),
    ],
)
def test_bad_argument_of_a_complex_scan_is_named(name: str, value: Tensor) -> None:
    with pytest.raises(ValueError, match=f"^{name} "):
        selective_scan(**(arguments(complex=True) | {name: value}))


def test_unknown_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="unknown scan backend 'chunkd': did you mean chunked"):
        selective_scan(**arguments(), backend="chunkd")
    monkeypatch.setenv(VARIABLE, "chunkd")
    with pytest.raises(UserError, match=f"in {VARIABLE} 'chunkd': did you mean chunked") as caught:
        selective_scan(**arguments())
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


def test_a_backend_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    said = r"is 'cpu-generic', which cannot run this scan: .*; 'auto' takes the fastest that can$"
    with pytest.raises(ScanArgumentError, match=f"^backend {said}") as caught:
        selective_scan(**arguments(complex=True), backend="cpu-generic")
    assert isinstance(caught.value, UserError)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)
    monkeypatch.setenv(VARIABLE, "cpu-generic")
    with pytest.raises(ScanArgumentError, match=f"^{VARIABLE} {said}"):
        selective_scan(**arguments(complex=True))


def test_the_variable_stands_in_for_auto_only(monkeypatch: pytest.MonkeyPatch) -> None:
    traits = Traits("cpu")
    monkeypatch.delenv(VARIABLE, raising=False)
    assert choose_backend("auto", traits) == next(name for name in BACKENDS if not BACKENDS[name].obstacle(traits))
    first = choose_backend("auto", traits)
    for unset in ("", "auto"):
        monkeypatch.setenv(VARIABLE, unset)
        assert choose_backend("auto", traits) == first
        assert active() == [first]
        assert not any(VARIABLE in status.reason for status in explain_backend())
    monkeypatch.setenv(VARIABLE, "reference")
    assert choose_backend("auto", traits) == "reference"
    assert choose_backend("chunked", traits) == "chunked"


def test_the_slow_path_of_cuda_is_announced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    for name in ("triton", "mamba-ssm"):
        broken = replace(BACKENDS[name], obstacle=lambda traits, name=name: f"{name} is broken")
        monkeypatch.setitem(BACKENDS, name, broken)
    _notice.cache_clear()
    with pytest.warns(UserWarning, match="^scans on CUDA run in plain PyTorch.*: triton is broken$"):
        assert choose_backend("auto", Traits("cuda", initial_state=True)) == "chunked"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose_backend("auto", Traits("cuda")) == "chunked"
        _notice.cache_clear()
        assert choose_backend("auto", Traits("cuda", complex=True)) == "chunked"  # no backend is faster
        assert choose_backend("chunked", Traits("cuda")) == "chunked"  # asked for
        assert [status.name for status in explain_backend("cuda") if status.active] == ["chunked"]


def active(**traits: Any) -> list[str]:
    return [status.name for status in explain_backend(**traits) if status.active]


def test_explanation_names_the_backend_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    for traits in ({}, {"complex": True}, {"double": True}, {"constant": True, "initial_state": True}):
        assert active(**traits) == [choose_backend("auto", Traits("cpu", **traits))]
    assert active(complex=True) == ["chunked"]
    monkeypatch.setenv(VARIABLE, "reference")
    assert active() == ["reference"]
    assert VARIABLE in {status.name: status.reason for status in explain_backend()}["reference"]


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1", "mps", "nonsense", torch.device("cpu")])
@pytest.mark.parametrize("variable", [None, "", "chunked", "triton", "nonsense"])
def test_explanation_never_raises(
    monkeypatch: pytest.MonkeyPatch, device: str | torch.device, variable: str | None
) -> None:
    if variable is None:
        monkeypatch.delenv(VARIABLE, raising=False)
    else:
        monkeypatch.setenv(VARIABLE, variable)
    rows = explain_backend(device, initial_state=True)
    assert [row.name for row in rows] == [*BACKENDS, "reference"]
    assert all(row.reason and "\n" not in row.reason for row in rows)
    assert sum(row.active for row in rows) <= 1


def test_import_adds_no_heavy_package() -> None:
    """Beyond those of PyTorch itself, whose FLOP counter may import Triton."""
    code = (
        "import sys, torch.utils.flop_counter; before = set(sys.modules); import students.scan;"
        "heavy = {'triton', 'mamba_ssm', 'causal_conv1d', 'onnx', 'onnxscript', 'transformers', 'timm'};"
        "assert not heavy & (set(sys.modules) - before), heavy & (set(sys.modules) - before)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
