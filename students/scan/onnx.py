"""ONNX export: the operators of this package in standard ones, the selective scan as `Scan`.

    program = torch.onnx.export(
        model, (images,), dynamo=True, opset_version=18, custom_translation_table=scan_translations()
    )

Runtimes run the body of `Scan` once per token. Its channels are last and its rows few, so that every operation of it
runs along whole vectors, and the sum over the states is a matrix product. `benchmarks/scan_export.py` compares it with
forms that take several tokens at once. The sizes of batch, image and sequence may be dynamic. A must be real: the
exporter refuses complex tensors before it looks for a translation.

Axes: B batch, K directions, T tokens along a direction, P tokens of the image, D channels, G groups, M = D / G channels
of a group, N states, Q = B K G rows that are scanned side by side, L tokens of a convolution, W taps.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import onnx_ir as ir
import torch
from onnxscript import graph, opset18, script
from onnxscript.onnx_types import TensorType
from onnxscript.values import Opset
from torch._ops import OpOverload

import students.scan  # noqa: F401  registers the operators

op: Any = opset18  # whose signatures do not know `ir.Value`
_Real = TypeVar("_Real", bound=TensorType)  # float32 or float64, one for all
_Value = Any  # an `ir.Value`, a type that the exporter cannot read from signatures


def scan_translations() -> dict[OpOverload, Callable[..., Any]]:
    """The `custom_translation_table` with which `torch.onnx.export(dynamo=True)` exports models that scan.

    Needs the packages onnx and onnxscript, and opset 18 or later. Exported models do not check order tables that they
    are given, as `selective_scan_2d` does: the result for a wrong table is undefined.
    """
    ops = torch.ops.distill
    return {
        ops.selective_scan.default: _selective_scan,
        ops.checked_scan_order.default: _checked_scan_order,
        ops.convolve.default: _convolve,
    }


_OWN = Opset("distill.scan", 1)  # of functions, which the exporter writes out where they are called


@script(_OWN, default_opset=opset18)
def _recurrence(
    A: _Real, state: _Real, delta: _Real, x: _Real, B: _Real, C: _Real
) -> tuple[_Real, _Real]:  # fmt: skip
    """h_t = exp(Δ_t A) h_{t-1} + x_t B_t and y_t = C_t h_t.

    A and the state are (Q, N, M), delta and x (T, Q, 1, M), B (T, Q, N, 1) or (T, Q, N, M), C (T, Q, 1, N).
    """

    @graph()
    def step(decay, before, delta_t, x_t, B_t, C_t):  # type: ignore[no-untyped-def]
        after = op.Exp(delta_t * decay) * before + x_t * B_t
        # OpenVINO reads no body that refers to values outside, and onnxruntime 1.31 computes wrong states where a body
        # returns what it is given.
        return op.Identity(decay), after, op.MatMul(C_t, after)

    _, last, y = op.Scan(A, state, delta, x, B, C, body=step, num_scan_inputs=4)
    return last, y


@script(_OWN, default_opset=opset18)
def _weighted_recurrence(
    A: _Real, state: _Real, delta: _Real, x: _Real, B: _Real, C: _Real
) -> tuple[_Real, _Real]:  # fmt: skip
    """As `_recurrence` where C differs from channel to channel, (T, Q, N, M)."""

    @graph()
    def step(decay, before, delta_t, x_t, B_t, C_t):  # type: ignore[no-untyped-def]
        after = op.Exp(delta_t * decay) * before + x_t * B_t
        y_t = op.ReduceSum(after * C_t, op.Constant(value_ints=[-2]), keepdims=1)
        return op.Identity(decay), after, y_t

    _, last, y = op.Scan(A, state, delta, x, B, C, body=step, num_scan_inputs=4)
    return last, y


def _selective_scan(
    u: _Value,
    delta: _Value,
    delta_weight: _Value | None,
    A: _Value,
    B: _Value,
    C: _Value,
    D: _Value | None,
    z: _Value | None,
    delta_bias: _Value | None,
    initial_state: _Value | None,
    order: _Value | None,
    delta_softplus: bool,
    scale: float,
    training: bool,
    backend: str,
) -> tuple[_Value, _Value, _Value, _Value]:
    """The tensors of a `Result`, of which those for the backward pass are empty."""
    dtype = ir.DataType.DOUBLE if u.dtype == ir.DataType.DOUBLE else ir.DataType.FLOAT
    directions, channels, states = _sizes(A)
    groups = next((_sizes(weights)[2] for weights in (B, C) if len(_sizes(weights)) == 5), 1)
    per_channel, width = [directions, 1, channels], channels // groups

    def cast(x: ir.Value) -> ir.Value:
        return op.Cast(x, to=dtype)

    def number(value: float) -> ir.Value:
        return op.Constant(value=ir.tensor(value, dtype=dtype))

    def split(x: ir.Value) -> ir.Value:
        """(B, K, T, D) to (T, Q, 1, M)."""
        return op.Reshape(op.Transpose(x, perm=[2, 0, 1, 3]), _ints(0, -1, 1, width))

    def rows(x: ir.Value) -> ir.Value:
        """(B, K, D, N), or with B = 1 for all of them, to (Q, N, M)."""
        x = op.Transpose(op.Reshape(x, _ints(0, 0, groups, width, states)), perm=[0, 1, 2, 4, 3])
        shape = op.Concat(op.Shape(u, start=0, end=1), _ints(1, 1, 1, 1), axis=0)
        return op.Reshape(op.Expand(x, shape), _ints(-1, states, width))

    def weigh(weights: ir.Value, axis: int) -> ir.Value:
        """B or C as (T, Q, N, M) where they are constant in time, else (T, Q, N, 1), or (T, Q, 1, N) for axis 2."""
        if len(_sizes(weights)) == 3:
            return op.Expand(rows(op.Unsqueeze(cast(weights), _ints(0))), op.Concat(steps, _ints(1, 1, 1), axis=0))
        flat = op.Reshape(op.Transpose(cast(weights), perm=[0, 1, 3, 2, 4]), _ints(0, 0, 0, groups * states))
        return op.Unsqueeze(op.Reshape(op.Transpose(along(flat), perm=[2, 0, 1, 3]), _ints(0, -1, states)), _ints(axis))

    tokens = op.Shape(u, start=2, end=3)
    if order is None:
        steps, visit = tokens, None

        def along(x: ir.Value, shared: bool = False) -> ir.Value:
            return x
    else:
        steps, visit = op.Shape(order, start=1, end=2), _Visit(order, tokens, directions)
        along = visit.read

    step = cast(delta)
    if delta_weight is not None:
        step = op.MatMul(step, op.Transpose(cast(delta_weight), perm=[0, 2, 1]))
    if delta_bias is not None:
        step = op.Add(step, op.Reshape(cast(delta_bias), _ints(*per_channel)))
    if delta_softplus:
        step = op.Softplus(step)
    step, inputs = along(step), along(cast(u), shared=_sizes(u)[1] == 1)
    if visit is not None:  # Δ = 0 beyond the end of a short direction leaves the state as it is
        step, inputs = op.Where(visit.inside, step, number(0.0)), op.Where(visit.inside, inputs, number(0.0))

    first = number(0.0) if initial_state is None else cast(initial_state)
    if initial_state is None:
        first = op.Expand(first, _ints(1, directions, channels, states))
    recur = _weighted_recurrence if len(_sizes(C)) == 3 else _recurrence
    last, y = recur(
        rows(op.Unsqueeze(cast(A), _ints(0))),
        rows(first),
        split(step),
        split(op.Mul(step, inputs)),
        weigh(B, 3),
        weigh(C, 2),
    )

    y = op.Reshape(y, op.Concat(steps, op.Shape(u, start=0, end=1), _ints(directions, channels), axis=0))
    y = op.Transpose(y, perm=[1, 2, 0, 3])
    if D is not None:
        y = op.Add(y, op.Mul(inputs, op.Reshape(cast(D), _ints(*per_channel))))
    if visit is not None:
        y = visit.write(y, number(0.0))
    y = op.Mul(op.ReduceSum(y, _ints(1), keepdims=0), number(scale))
    if z is not None:
        gate = cast(z)
        y = op.Mul(y, op.Mul(gate, op.Sigmoid(gate)))
    empty = op.Constant(value=ir.tensor([], dtype=dtype))
    last = op.Transpose(op.Reshape(last, _ints(-1, directions, groups, states, width)), perm=[0, 1, 2, 4, 3])
    last = op.Reshape(last, _ints(0, 0, channels, states))
    return op.Cast(y, to=u.dtype), last, empty, op.Identity(empty)


class _Visit:
    """Reads and writes the tokens of an image in the orders of its directions.

    Args:
        order: (K, T), -1 beyond the end of a direction.
        tokens: (1,), P.
        directions: K.
    """

    def __init__(self, order: ir.Value, tokens: ir.Value, directions: int) -> None:
        order = op.Cast(order, to=ir.DataType.INT64)
        none, zero, one = (op.Constant(value_int=value) for value in (-1, 0, 1))
        self.directions = directions
        inside = op.Greater(order, none)
        self.inside = op.Unsqueeze(inside, _ints(-1))
        self._rows = op.Constant(value=ir.tensor([[k] for k in range(directions)], dtype=ir.DataType.INT64))
        self._order = op.Where(inside, order, zero)
        # The step at which each token is visited; T, an outcome of zero, where it is not. Column P takes the padding.
        steps = op.Shape(order, start=1, end=2)
        count = op.Range(zero, op.Squeeze(steps, _ints(0)), one)
        unvisited = op.Expand(steps, op.Concat(_ints(directions), op.Add(tokens, _ints(1)), axis=0))
        visited = op.ScatterElements(
            unvisited, op.Where(inside, order, tokens), op.Expand(count, op.Shape(order)), axis=1
        )
        self._step_of = op.Slice(visited, _ints(0), tokens, _ints(1))

    def read(self, x: ir.Value, shared: bool = False) -> ir.Value:
        """(B, K, P, w), or if shared (B, 1, P, w), to (B, K, T, w)."""
        return self._gather(x, self._order, shared)

    def write(self, x: ir.Value, zero: ir.Value) -> ir.Value:
        """(B, K, T, w) to (B, K, P, w), zero where a direction does not visit a token."""
        pad = op.Constant(value=ir.tensor([0, 0, 0, 0, 0, 0, 1, 0], dtype=ir.DataType.INT64))
        return self._gather(op.Pad(x, pad, zero), self._step_of, shared=False)

    def _gather(self, x: ir.Value, index: ir.Value, shared: bool) -> ir.Value:
        """Tokens `index` (K, t) of x (B, K, s, w) or (B, 1, s, w)."""
        if not shared:
            index = op.Add(index, op.Mul(self._rows, op.Shape(x, start=2, end=3)))
        flat = op.Reshape(x, op.Concat(_ints(0, -1), op.Shape(x, start=3, end=4), axis=0))
        return op.Gather(flat, index, axis=1)


def _checked_scan_order(order: _Value, tokens: int) -> _Value:
    """The order as int32, unchecked: a token too large is read and written in the next direction."""
    return op.Cast(order, to=ir.DataType.INT32)


def _convolve(x: _Value, weight: _Value, bias: _Value, silu: bool, offsets: list[int], strides: list[int]) -> _Value:
    """`students.scan.convolution.convolve`: (B, L, D) to (B, K, L, D)."""
    channels, taps = _sizes(weight)
    x = op.Transpose(x, perm=[0, 2, 1])
    outputs = []
    for offset, stride in zip(offsets, strides, strict=True):
        kernel = weight
        if stride < 0:  # the same taps in the order of the tokens
            kernel = op.Slice(weight, _ints(-1), _ints(-taps - 1), _ints(1), _ints(-1))
            offset -= taps - 1
        kernel = op.Unsqueeze(kernel, _ints(1))
        y = op.Conv(x, kernel, bias, group=channels, pads=[-offset, taps - 1 + offset])
        y = op.Mul(y, op.Sigmoid(y)) if silu else y
        outputs.append(op.Unsqueeze(op.Transpose(y, perm=[0, 2, 1]), _ints(1)))
    return op.Concat(*outputs, axis=1)


def _sizes(x: ir.Value) -> tuple[Any, ...]:
    if x.shape is None:
        raise ValueError(f"the shape of {x.name} is unknown")
    return tuple(size if isinstance(size, int) else None for size in x.shape)


def _ints(*values: int) -> ir.Value:
    return op.Constant(value_ints=list(values))
