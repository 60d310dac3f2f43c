"""Both passes of the selective scan as calls of the Triton programs of `students.scan.triton.programs`.

Axes: B batch, K directions, S segments, P tokens of the image, D channels, G groups, N states, R rank of Δ.
"""

import torch
from torch import Tensor

from students.scan.flatten import factor_gradients, gate, gate_gradient
from students.scan.problem import Gradients, Result, Scan
from students.scan.triton.arguments import Targets
from students.scan.triton.launch import BACKWARD, FORWARD, Launch, starts_shape, strided

NOTE = "Triton kernels, compiled on first use; gradients repeat bit by bit"


def forward(scan: Scan, training: bool) -> Result:
    """Runs a scan; in training it keeps the states before every chunk."""
    launch = Launch(scan, FORWARD)
    last_state = scan.u.new_empty(scan.batch, *scan.A.shape, dtype=torch.float32)
    kept = starts_shape(scan) if training else (0,)
    starts = _new(scan, kept, torch.float32)  # chunks beyond the end of a row are not written
    entering = None if scan.initial_state is None else scan.initial_state.unsqueeze(2)
    if launch.segments > 1:
        entering = launch.enter("local_states", (), entering, backwards=False)

    # A lone direction without order reaches every token once and writes the final output; else directions are added up.
    direct = scan.directions == 1 and scan.order is None
    out = _per_token(scan, scan.u.dtype if direct else torch.float32)
    gated = direct and scan.z is not None
    ungated = torch.empty_like(out, dtype=torch.float32) if gated and training else None
    launch.run(
        "outputs",
        strided(entering),
        strided(scan.z.unsqueeze(1) if gated and scan.z is not None else None),
        strided(out),
        strided(ungated),
        strided(last_state.unsqueeze(2)),
        strided(starts.transpose(3, 4) if training else None),
        scan.scale,
    )
    nothing = scan.u.new_empty(0, dtype=torch.float32)
    if direct:
        return Result(out.squeeze(1), last_state, nothing if ungated is None else ungated.squeeze(1), starts)
    y = out.sum(1)
    if scan.z is None:
        return Result(y.to(scan.u.dtype), last_state, nothing, starts)
    # Unlike y, z may have any strides.
    return Result(gate(y, scan.z).to(scan.u.dtype).contiguous(), last_state, y if training else nothing, starts)


def backward(grad_out: Tensor, grad_last: Tensor | None, scan: Scan, ungated: Tensor, starts: Tensor) -> Gradients:
    """The gradients of `forward`, contiguous. Those of Δ's factors are matrix products with the gradient of Δ."""
    launch = Launch(scan, BACKWARD)
    grad_y, grad_z = grad_out.float(), None
    if scan.z is not None:
        grad_y, grad_z = gate_gradient(grad_y, scan.z, ungated)
    each_grad_y = strided((grad_y * scan.scale).unsqueeze(1).expand(-1, scan.directions, -1, -1))
    entering = None if grad_last is None else grad_last.unsqueeze(2)
    if launch.segments > 1:
        entering = launch.enter("local_gradients", (each_grad_y,), entering, backwards=True)

    # What several programs contribute to: partial sums, over the first axis or over images and segments.
    partial = (launch.parts, scan.batch, scan.directions, scan.groups, scan.tokens, scan.states)
    grad_B, grad_C = (_new(scan, partial, torch.float32) for _ in range(2))
    grad_A = launch.per_segment(scan.states)
    grad_D, grad_bias = (None if x is None else launch.per_segment() for x in (scan.D, scan.delta_bias))
    shared = scan.u.shape[1] < scan.directions
    grad_u = _per_token(scan, torch.float32 if shared else scan.u.dtype)
    grad_delta = _per_token(scan, scan.delta.dtype if scan.delta_weight is None else torch.float32)
    initial = scan.initial_state
    grad_initial = None if initial is None else torch.empty_like(initial, memory_format=torch.contiguous_format)
    targets = Targets(
        u=strided(grad_u),
        delta=strided(grad_delta),
        A=strided(grad_A),
        B=strided(grad_B.movedim(0, -1)),
        C=strided(grad_C.movedim(0, -1)),
        D=strided(grad_D),
        bias=strided(grad_bias),
        initial=strided(None if grad_initial is None else grad_initial.unsqueeze(2)),
    )
    launch.run_in_turns("gradients", strided(starts.transpose(3, 4)), strided(entering), each_grad_y, targets)

    grad_weight = None
    if scan.delta_weight is not None:
        grad_delta, grad_weight = factor_gradients(grad_delta, _visited(scan.delta, scan.order), scan.delta_weight)
    return Gradients(
        u=_like(grad_u.sum(1, keepdim=True) if shared else grad_u, scan.u),
        delta=_like(grad_delta, scan.delta),
        delta_weight=_optional(grad_weight, scan.delta_weight),
        A=_like(grad_A.sum((0, 2)), scan.A),
        B=_like(grad_B.sum(0), scan.B),
        C=_like(grad_C.sum(0), scan.C),
        D=_optional(None if grad_D is None else grad_D.sum((0, 2)), scan.D),
        z=_optional(grad_z, scan.z),
        delta_bias=_optional(None if grad_bias is None else grad_bias.sum((0, 2)), scan.delta_bias),
        initial_state=grad_initial,
    )


def _new(scan: Scan, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor for what every direction writes at its steps: zero where there is an order, which may leave some out."""
    return scan.u.new_empty(shape, dtype=dtype) if scan.order is None else scan.u.new_zeros(shape, dtype=dtype)


def _per_token(scan: Scan, dtype: torch.dtype) -> Tensor:
    """(B, K, P, D)."""
    return _new(scan, (scan.batch, scan.directions, scan.tokens, scan.channels), dtype)


def _visited(x: Tensor, order: Tensor | None) -> Tensor:
    """x (B, K, P, R), zero at tokens that a direction leaves out: their gradient is zero, and 0·inf is NaN."""
    if order is None:
        return x
    tokens = x.shape[2]
    left_out = torch.ones(len(order), tokens + 1, dtype=torch.bool, device=x.device)
    left_out.scatter_(1, torch.where(order < 0, tokens, order).long(), False)
    return x.masked_fill(left_out[:, :tokens, None], 0)


def _like(gradient: Tensor, x: Tensor) -> Tensor:
    """A gradient in the dtype of its tensor, and contiguous as the operator promises."""
    return gradient.to(x.dtype).contiguous()


def _optional(gradient: Tensor | None, x: Tensor | None) -> Tensor | None:
    return None if gradient is None or x is None else _like(gradient, x)
