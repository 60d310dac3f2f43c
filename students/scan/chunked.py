"""The selective scan in plain PyTorch, blocked over time: the backend that runs everywhere.

The recurrence h_t = a_t h_{t-1} + x_t, with a_t = exp(Δ_t A) and x_t = Δ_t u_t B_t, is linear. Time is cut into blocks
that fit the cache, and each block into `lanes` equal chunks that advance side by side, one position of all per call:

    within all lanes    l_j = a_j l_{j-1} + x_j from l = 0, and the decay over the lane p = Π a_j
    from lane to lane   e_{i+1} = l_last,i + p_i e_i, the state that enters lane i + 1
    within all lanes    h_j = a_j h_{j-1} + x_j from e_i

Only products of decays occur, never a quotient and never a cumulated logarithm, so the result is as stable as the plain
loop for any A, and overflows where the loop overflows. The exponential, the most expensive operation, is taken once per
state in either pass.

Source: the recurrence is Mamba (Gu and Dao 2023, https://arxiv.org/abs/2312.00752, equation 2, B by Euler's rule as in
its code); the lanes are the chunks of Martin and Cundy 2018 (https://arxiv.org/abs/1709.04057, section 2). The gradient
g_t = C_t ȳ_t + a_{t+1} g_{t+1} is the same recurrence run backwards, and is computed by the same function. At a complex
A that holds for the conjugate of PyTorch's gradient, so the gradients are conjugated at the end.

Axes: b batch rows of one slab, q lanes, s positions per lane, d channels of one slab, n states; the others as in
`students.scan.problem`.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from students.scan.chunked_slab import Part, Plan, Slab, real
from students.scan.flatten import flatten, flatten_gradient, merge, unflatten
from students.scan.problem import Gradients, Result, Scan, Traits

NOTE = "plain PyTorch, any device"

# Chunks that advance together where the sequence is long enough: Python runs once per position of all of them.
_LANES = 8
# States advanced by one call: a slab takes as many rows and channels as stay below with all lanes.
_STEP_ELEMENTS = {"cpu": 2**16, "cuda": 2**20}
# States held per buffer, of which there are up to six: larger ones leave the cache, smaller ones make more calls.
_BLOCK_ELEMENTS = {"cpu": 2**19, "cuda": 2**22}


def obstacle(traits: Traits) -> str:
    """Always empty: this backend can compute every scan."""
    return ""


def starts_shape(scan: Scan) -> tuple[int, ...]:
    """Shape of the states before each block, (blocks, B, K, N, D); sizes may be symbolic."""
    blocks, _ = _cut(scan.channels // scan.groups, scan.states, scan.steps, scan.u.device.type)
    return blocks, scan.batch, scan.directions, scan.states, scan.channels


def plan_blocks(batch: int, channels: int, states: int, length: int, device: str) -> Plan:
    """Cuts a scan of `channels` per group into slabs, blocks and lanes.

    Args:
        batch: Batch size B.
        channels: Channels per group, D / G.
        states: State size N.
        length: Steps T.
        device: Device type, for example "cpu".
    """
    step, block = _budget(device)
    blocks, width = _cut(channels, states, length, device)
    tokens = -(-length // blocks)  # equal blocks, so that little of the last one is padding
    rows = max(1, min(batch, step // (width * states * _LANES), block // (width * states * tokens)))
    lanes = max(1, min(step // (rows * width * states), math.isqrt(tokens)))
    steps = -(-tokens // lanes)
    return Plan(rows, width, lanes, steps, -(-length // (lanes * steps)))


def forward(scan: Scan, training: bool) -> Result:
    """Runs the scan; in training it keeps the states before each block."""
    with torch.no_grad(), _one_thread(scan.u.device):
        flat = flatten(scan)
        plan = _plan(flat)
        states = (scan.batch, scan.directions, scan.states, scan.channels)
        y = scan.u.new_empty(flat.u.shape, dtype=scan.dtype)
        last = scan.u.new_empty(states, dtype=scan.state_dtype)
        starts = scan.u.new_zeros(starts_shape(scan) if training else (0,), dtype=scan.state_dtype)
        for part in _parts(flat, plan):
            slab = Slab(flat, plan, part)
            if flat.initial_state is not None:
                slab.carry.copy_(part.states(flat.initial_state.mT))
            for index in range(plan.blocks):
                if training:
                    part.states(starts[index]).copy_(slab.carry)
                slab.advance(index)
                sums = slab.contract(slab.read_weights(slab.C, index), slab.state[1:])
                if scan.A.is_complex():
                    sums.mul_(2)
                slab.write(part.tokens(y), index, sums if slab.skip is None else sums.addcmul_(slab.u_block, slab.skip))
            part.states(last).copy_(slab.carry)
        out, ungated = merge(scan, y, training)
    return Result(out, last.mT.contiguous(), ungated, starts)


def backward(grad_out: Tensor, grad_last: Tensor | None, scan: Scan, ungated: Tensor, starts: Tensor) -> Gradients:
    """The gradients, from the states before each block.

    a_t h_{t-1} in the gradients of Δ and A is formed from the recomputed states; h_t - Δ_t u_t B_t, as mamba-ssm's CUDA
    kernel has it, cancels when the decay is small.
    """
    with torch.no_grad(), _one_thread(scan.u.device):
        flat = flatten(scan)
        plan = _plan(flat)
        grad_y, grad_z = flatten_gradient(scan, grad_out, ungated)
        sums = _Sums(flat)
        for part in _parts(flat, plan):
            _differentiate(Slab(flat, plan, part), part, grad_y, grad_last, starts, sums)
        return unflatten(scan, sums.gradients(flat, grad_z))


class _Sums:
    """The gradients of a flattened scan while they are added up, channels last throughout."""

    def __init__(self, scan: Scan) -> None:
        def zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
            return scan.u.new_zeros(shape, dtype=dtype)

        channels = (scan.directions, scan.channels)
        states = (scan.directions, scan.states, scan.channels)
        self.u, self.delta = (scan.u.new_empty(scan.u.shape, dtype=scan.dtype) for _ in range(2))
        self.A = zeros(states, scan.state_dtype)
        self.B, self.C = (zeros(states if x.dim() == 3 else tuple(x.shape), scan.state_dtype) for x in (scan.B, scan.C))
        self.D, self.bias = zeros(channels, scan.dtype), zeros(channels, scan.dtype)
        self.initial = zeros((scan.batch, *states), scan.state_dtype)

    def gradients(self, scan: Scan, grad_z: Tensor | None) -> Gradients:
        """As `unflatten` takes them."""
        grad_B, grad_C = (x.mT if x.dim() == 3 else x for x in (self.B, self.C))
        grad_A, grad_initial = self.A.mT, self.initial.mT
        if scan.A.is_complex():
            grad_A, grad_B, grad_C, grad_initial = (
                x.conj_physical() for x in (grad_A, grad_B, 2 * grad_C, grad_initial)
            )
        return Gradients(
            u=self.u,
            delta=self.delta,
            delta_weight=None,
            A=grad_A,
            B=grad_B,
            C=grad_C,
            D=self.D,
            z=grad_z,
            delta_bias=self.bias,
            initial_state=grad_initial,
        )


def _differentiate(
    slab: Slab, part: Part, grad_y: Tensor, grad_last: Tensor | None, starts: Tensor, sums: _Sums
) -> None:
    """Adds the gradients of one slab up, last block first."""
    plan = slab.plan
    grad, product, sum_A = slab.states(plan.steps + 1), slab.product, slab.states(1)[0].zero_()
    g, decay, dy, du = grad[:-1], slab.decay[:-1], slab.tokens(slab.width), slab.tokens(slab.width)
    # Backwards in time, position j is reached from j + 1 by the decay a_{j+1}; `decay` has a slot for that of the token
    # after the lane, and slot s of `grad` receives the gradients that enter the lanes.
    decays, grads = slab.decay[1:].unbind(0)[::-1], grad.unbind(0)[-1:] + g.unbind(0)[::-1]
    next_decay = torch.ones_like(slab.carry)
    carry = torch.zeros_like(slab.carry)
    if grad_last is not None:
        carry.copy_(part.states(grad_last.mT).conj())
    for index in reversed(range(plan.blocks)):
        slab.carry.copy_(part.states(starts[index]))
        slab.advance(index)
        slab.read(part.tokens(grad_y), index, dy)
        torch.mul(dy.unsqueeze(-2), slab.read_weights(slab.C, index), out=g)
        slab.fill_beyond(index, g, 0)
        if g.is_complex():
            g.mul_(2)
        slab.decay[-1, :, :-1] = decay[0, :, 1:]
        slab.decay[-1, :, -1] = next_decay
        next_decay.copy_(decay[0, :, 0])
        slab.carry.copy_(carry)
        slab.recur(decays, grads, reverse=True)
        carry.copy_(slab.carry)

        slab.add_weights(part.weights(sums.C), index, torch.mul(slab.state[1:], dy.unsqueeze(-2), out=product))
        slab.add_weights(part.weights(sums.B), index, torch.mul(g, slab.input.unsqueeze(-2), out=product))
        through_B = slab.contract(slab.read_weights(slab.B, index), g)  # the gradient of Δ_t u_t
        torch.mul(slab.delta_block, through_B, out=du)
        if slab.skip is not None:
            du.addcmul_(dy, slab.skip)
            part.parameters(sums.D).add_(dy.mul_(slab.u_block).sum((0, 1, 2)))
        slab.write(part.tokens(sums.u), index, du)

        torch.mul(decay, g, out=product).mul_(slab.state[:-1])  # g_t a_t h_{t-1}, for A and for Δ
        slab.fill_beyond(index, product, 0)
        for delta_position, position in zip(slab.delta_block.unsqueeze(-2), product.unbind(0), strict=True):
            sum_A.addcmul_(position, delta_position)
        d_delta = torch.sum(real(product.mul_(slab.A)), -2, out=du).addcmul_(slab.u_block, through_B)
        if slab.softplus:
            torch.where(slab.raw > 20, d_delta, torch.sigmoid(slab.raw, out=dy).mul_(d_delta), out=d_delta)
        slab.write(part.tokens(sums.delta), index, d_delta)
        part.parameters(sums.bias).add_(slab.valid(index, d_delta).sum((0, 1)))
    part.parameters(sums.A).add_(sum_A.sum((0, 1)))
    part.states(sums.initial).copy_(carry.mul_(next_decay))


def _budget(device: str) -> tuple[int, int]:
    """States advanced by one call, and states held per buffer."""
    return (
        _STEP_ELEMENTS.get(device, _STEP_ELEMENTS["cuda"]),
        _BLOCK_ELEMENTS.get(device, _BLOCK_ELEMENTS["cuda"]),
    )


def _cut(channels: int, states: int, length: int, device: str) -> tuple[int, int]:
    """Blocks along time, of which the last may remain unused, and channels per slab.

    The number of blocks is one division of the length, so that it can be computed for a symbolic one.
    """
    step, block = _budget(device)
    width = max(1, min(channels, step // (states * _LANES)))
    return -(-length // max(16, block // (width * states))), width


def _plan(scan: Scan) -> Plan:
    return plan_blocks(scan.batch, scan.channels // scan.groups, scan.states, scan.steps, scan.u.device.type)


def _parts(scan: Scan, plan: Plan) -> Iterator[Part]:
    """Every (batch rows, direction, channels, group) that is processed on its own."""
    size = scan.channels // scan.groups
    for direction in range(scan.directions):
        for group in range(scan.groups):
            for first in range(group * size, (group + 1) * size, plan.channels):
                cols = slice(first, min(first + plan.channels, (group + 1) * size))
                for row in range(0, scan.batch, plan.rows):
                    yield Part(slice(row, min(row + plan.rows, scan.batch)), direction, cols, group)


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """Keeps the calls inside on one CPU core: each takes tens of microseconds, and all work on the same cache.

    Waking other threads for each gains little when they are idle, and multiplies the time by ten when they are not. It
    also fixes the order of every sum.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
