"""Scans that the Triton backend must compute like the reference, on any device.

`python -m tests.students.scan.triton_cases` runs them on the CPU and prints as JSON what differs, by group, and under
"operator" what is wrong with the backend as a PyTorch operator. That needs TRITON_INTERPRET=1 from the start of the
process.
"""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from students.scan.operator import scan_forward
from students.scan.problem import Scan
from students.scan.reference import scan_reference
from students.scan.triton import backward, forward, launch, starts_shape, support
from tests.students.scan import problems

TOLERANCE = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
NAMES = ("u", "delta", "delta_weight", "A", "B", "C", "D", "z", "delta_bias", "initial_state")


@dataclass(frozen=True)
class Case:
    """Sizes and options of a scan; `chunk`, `spoil` and `unread` change the backend's chunks and the tensors."""

    channels: int = 5
    tokens: int = 7
    states: int = 4
    batch: int = 1
    directions: int = 1
    groups: int = 1
    rank: int = 0
    order: str = ""
    shared: bool = False
    options: str = ""  # of "skip gate bias softplus initial last"
    dtype: torch.dtype = torch.float32
    transposed: bool = False
    chunk: int = launch.CHUNK
    spoil: Callable[[dict[str, Any]], None] | None = None
    unread: float = 0.0  # what is added to Δ's factors at tokens that a direction leaves out


ALL = "skip gate bias softplus initial last"


def _stiff(x: dict[str, Any]) -> None:
    x["A"] = torch.linspace(-64, 0, x["A"].numel()).view_as(x["A"]).to(x["A"])
    x["delta"] = x["delta"].abs().clamp(max=1) * 5


def _growing(x: dict[str, Any]) -> None:
    """Decays above one whose product over a segment overflows, where states and gradients are zero."""
    x["A"], x["delta"] = torch.full_like(x["A"], 20), torch.full_like(x["delta"], 3)
    x["u"][:, :, :14] = 0
    x["C"].zero_()
    x["delta"][:, :, 14:] = 0.1


def _spoiled(name: str, value: float) -> Callable[[dict[str, Any]], None]:
    def spoil(x: dict[str, Any]) -> None:
        x[name].select(-2, 4)[..., 1] = value

    return spoil


CASES: dict[str, dict[str, Case]] = {
    "sizes": {
        "one of everything": Case(1, 1, 1, options=ALL),
        "15 channels, 2 tokens, 3 states": Case(15, 2, 3, batch=2, options=ALL),
        "17 channels, 31 tokens, 8 states": Case(17, 31, 8, options="bias softplus"),
        "33 channels, 33 tokens, 16 states": Case(33, 33, 16, options=ALL),
        "more programs than run at once": Case(33, 1, 16, batch=5, directions=2, options=ALL),
        "groups": Case(12, 5, 8, batch=2, groups=3, options=ALL),
        "no image": Case(batch=0, options=ALL),
        "16 channels": Case(16, 2, 3, options=ALL),
        "192 channels": Case(192, 2, 3, options=ALL),
        "200 channels": Case(200, 2, 3, options=ALL),
        "32 tokens": Case(3, 32, 3, options=ALL),
        "25 tokens, chunks of 16": Case(2, 25, 1, chunk=16, options=ALL),
    },
    "parts": {
        "64 states": Case(5, 3, 64, options=ALL),
        "the last part is smaller": Case(200, 2, 64, options=ALL),
        "order and segments": Case(40, 8, 64, order="ragged", rank=2, chunk=2, options="softplus last"),
        "groups": Case(72, 2, 64, groups=2, options=ALL),
        "rank 48": Case(35, 3, 4, rank=48, options=ALL),
    },
    "options": {
        "none": Case(),
        **{option: Case(options=option) for option in ALL.split()},
        "low rank": Case(rank=3, options="bias softplus"),
        "bfloat16": Case(9, 9, 8, rank=2, dtype=torch.bfloat16, options=ALL),
        "float16": Case(9, 9, 8, dtype=torch.float16, options=ALL),
        "channel first": Case(9, 9, 3, batch=2, transposed=True, options=ALL),
    },
    "orders": {
        "two directions": Case(directions=2, options=ALL),
        "bidirectional, one u": Case(9, 8, 3, directions=2, rank=2, order="bidirectional", shared=True, options=ALL),
        "ragged": Case(9, 7, 4, batch=2, directions=3, order="ragged", options=ALL),
        "one order": Case(order="ragged", options=ALL),
        "NaN at tokens left out": Case(9, directions=2, order="ragged", rank=2, options=ALL, unread=float("nan")),
        "segments": Case(17, 17, 3, chunk=4, options=ALL),
        "ragged segments": Case(directions=2, tokens=8, order="ragged", chunk=2, rank=1, options="softplus last"),
    },
    "numbers": {
        "17 tokens, stiff": Case(tokens=17, chunk=8, spoil=_stiff),
        "segments, stiff": Case(tokens=17, chunk=4, options="initial last", spoil=_stiff),
        "segments, overflow": Case(tokens=17, chunk=4, spoil=_growing),
        "low rank inf": Case(1, 6, 3, rank=2, spoil=_spoiled("delta", float("inf")), options="softplus"),
        **{
            f"{name} {value}": Case(5, 6, 3, spoil=_spoiled(name, value), options="skip")
            for name, value in (
                ("u", float("inf")),
                ("u", float("nan")),
                ("delta", float("inf")),
                ("delta", float("nan")),
                ("B", float("inf")),
                ("C", float("nan")),
            )
        },
    },
}


def order_table(name: str, directions: int, tokens: int) -> Tensor | None:
    if not name:
        return None
    if name == "bidirectional":
        return torch.stack([torch.arange(tokens), torch.arange(tokens).flip(0)]).int()
    generator = torch.Generator().manual_seed(1)
    table = torch.full((directions, tokens), -1)
    for k in range(directions):
        table[k, : tokens - k - 1] = torch.randperm(tokens, generator=generator)[: tokens - k - 1]
    return table.int()


def make_scan(case: Case, device: str = "cpu") -> Scan:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, dtype: torch.dtype = case.dtype, scale: float = 1.0) -> Tensor:
        x = torch.randn(shape, generator=generator).to(dtype) * scale
        return x.mT.contiguous().mT if case.transposed and len(shape) > 2 else x

    b, k, p, d, n = case.batch, case.directions, case.tokens, case.channels, case.states
    x: dict[str, Any] = {
        "u": draw(b, 1 if case.shared else k, p, d),
        "delta": draw(b, k, p, case.rank or d),
        "delta_weight": draw(k, d, case.rank, dtype=torch.float32, scale=0.5) if case.rank else None,
        "A": -torch.rand(k, d, n, generator=generator) * 2,
        "B": draw(b, k, case.groups, p, n),
        "C": draw(b, k, case.groups, p, n),
        "D": draw(k, d, dtype=torch.float32) if "skip" in case.options else None,
        "z": draw(b, p, d) if "gate" in case.options else None,
        "delta_bias": draw(k, d, dtype=torch.float32) if "bias" in case.options else None,
        "initial_state": draw(b, k, d, n, dtype=torch.float32) if "initial" in case.options else None,
        "order": order_table(case.order, k, p),
        "delta_softplus": "softplus" in case.options,
        "scale": 1 / k,
    }
    if not case.rank and "softplus" not in case.options:
        x["delta"] = x["delta"].abs()  # Δ below zero grows without bounds
    if case.spoil is not None:
        case.spoil(x)
    on_device: dict[str, Any] = {name: v.to(device) if isinstance(v, Tensor) else v for name, v in x.items()}
    return Scan(**on_device)


def add_unread(scan: Scan, value: float) -> Scan:
    """The scan with a value added to Δ at the tokens that a direction leaves out."""
    if scan.order is None:
        return scan
    delta = scan.delta.clone()
    for k, row in enumerate(scan.order.tolist()):
        delta[:, k, sorted(set(range(scan.tokens)) - set(row))] += value
    return replace(scan, delta=delta)


def run(scan: Scan, grad_out: Tensor, grad_last: Tensor | None) -> dict[str, Tensor]:
    """Outputs and gradients of the Triton backend."""
    result = forward(scan, training=True)
    gradients = backward(grad_out.to(result.out.dtype), grad_last, scan, result.ungated, result.starts)
    found = {f"gradient of {name}": getattr(gradients, name) for name in NAMES}
    assert {f"gradient of {name}" for name in NAMES if getattr(scan, name) is None} == {
        name for name, gradient in found.items() if gradient is None
    }
    for name in NAMES:
        leaf, gradient = getattr(scan, name), found[f"gradient of {name}"]
        assert leaf is None or (leaf.shape, leaf.dtype) == (gradient.shape, gradient.dtype), name
        assert gradient is None or gradient.is_contiguous(), name
    assert all(x.is_contiguous() for x in (result.out, result.last_state, result.ungated, result.starts))
    assert result.out.dtype == scan.u.dtype
    assert result.starts.shape == starts_shape(scan)
    if scan.tokens < 8:
        inference = forward(scan, training=False)
        assert torch.equal(inference.out.nan_to_num(), result.out.nan_to_num())
        assert inference.starts.numel() == inference.ungated.numel() == 0
    outputs = {"out": result.out, "last state": result.last_state}
    return outputs | {name: gradient for name, gradient in found.items() if gradient is not None}


def expect(scan: Scan, grad_out: Tensor, grad_last: Tensor | None) -> dict[str, Tensor]:
    """The same from the reference in float64."""
    values = {field.name: getattr(scan, field.name) for field in fields(Scan)}
    leaves = {name: values[name].double().requires_grad_() for name in NAMES if values[name] is not None}
    out, last = scan_reference(replace(scan, **leaves))
    loss = (out * grad_out).sum() if grad_last is None else (out * grad_out).sum() + (last * grad_last).sum()
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    found = {f"gradient of {name}": gradient for name, gradient in zip(leaves, gradients, strict=True)}
    return {"out": out.detach(), "last state": last.detach()} | found


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference relative to the largest expected value; infinite where only one is finite, or NaN."""
    found = found.to(expected.dtype)
    if not expected.numel():
        return 0.0
    finite = expected.isfinite()
    if not (torch.equal(found.isfinite(), finite) and torch.equal(found.isnan(), expected.isnan())):
        return float("inf")
    scale = expected[finite].abs().max().clamp(min=1e-3) if finite.any() else 1.0
    return float(((found - expected)[finite].abs() / scale).max()) if finite.any() else 0.0


def differences(case: Case, device: str = "cpu") -> dict[str, float]:
    """Of every output and gradient, over the tolerance: what differs too much is above one."""
    before, launch.CHUNK = launch.CHUNK, case.chunk
    try:
        scan = make_scan(case, device)
        generator = torch.Generator().manual_seed(2)
        grad_out = torch.randn(case.batch, case.channels, case.tokens, generator=generator).to(case.dtype).to(device).mT
        grad_last = None
        if "last" in case.options:
            grad_last = torch.randn(scan.batch, *scan.A.shape, generator=generator).to(device)
        found, expected = run(add_unread(scan, case.unread), grad_out, grad_last), expect(scan, grad_out, grad_last)
        return {name: difference(found[name], expected[name]) / TOLERANCE[case.dtype] for name in expected}
    finally:
        launch.CHUNK = before


def failures(group: str, device: str = "cpu") -> dict[str, dict[str, float]]:
    """Of every case of a group, what differs too much."""
    return {
        name: {what: x for what, x in differences(case, device).items() if not x <= 1}
        for name, case in CASES[group].items()
    }


OPERATOR = [
    problems.Problem(channels=2, length=3, states=2, groups=2, initial_state=True),
    problems.Problem(channels=2, length=3, states=2, skip=False, gate=False, bias=False, softplus=False),
    problems.Problem(channels=2, order="atrous", grid=(1, 3), rank=2),
]


def operator_failures() -> dict[str, str]:
    """What PyTorch's checks of operators say, and whether autocast changes a result."""
    support.DEVICES = ("cpu", "cuda")
    failures = {}
    for problem in OPERATOR:
        scan = problems.cast(problems.build(problem), torch.float32)
        values = {field.name: getattr(scan, field.name) for field in fields(scan)}
        leaves = {name: values[name].clone().requires_grad_() for name in NAMES if values[name] is not None}
        inputs = list((values | leaves).values())
        out, _, ungated, starts = scan_forward(*inputs, True, "triton")
        grad_out = torch.ones_like(out.mT.contiguous()).mT  # as it arrives from the channel-first interface
        detached = [x.detach() if isinstance(x, Tensor) else x for x in inputs]
        short = ("test_schema", "test_faketensor")
        calls: list[tuple[str, Any, tuple[Any, ...], dict[str, Any]]] = [
            ("training", torch.ops.distill.selective_scan, (*inputs, True, "triton"), {}),
            ("inference", torch.ops.distill.selective_scan, (*detached, False, "triton"), {"test_utils": short}),
            (
                "backward",
                torch.ops.distill.selective_scan_backward,
                (grad_out, None, *detached, "triton", ungated.detach(), starts.detach()),
                {"test_utils": short},
            ),
        ]
        for what, operator, arguments, options in calls:
            try:
                torch.library.opcheck(operator.default, arguments, **options)
            except Exception as error:
                failures[f"{problem}: {what}"] = str(error)
        plain = problems.run(scan, "triton")
        with torch.autocast("cpu", torch.bfloat16):
            under_autocast = problems.run(scan, "triton")
        if changed := [name for name, x in plain.items() if not torch.equal(x, under_autocast[name])]:
            failures[f"{problem}: autocast"] = " ".join(changed)
    return failures


def replace_language_once() -> None:
    """Triton's interpreter replaces its language at each call of a device function too, which takes half of the time.

    A launch does it for the programs and the tiles; Triton's own device functions need it once.
    """
    from triton.runtime import interpreter

    once = functools.cache(interpreter._patch_lang)

    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        once(self.fn)
        return self.rewrite()(*arguments, **options)

    interpreter.InterpretedFunction.__call__ = call  # type: ignore[method-assign]


if __name__ == "__main__":
    replace_language_once()
    print(json.dumps({group: failures(group) for group in CASES} | {"operator": operator_failures()}))
