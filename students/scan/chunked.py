"""The selective scan in plain PyTorch, blocked over time: the backend that runs everywhere.

The recurrence h_t = a_t h_{t-1} + x_t, with a_t = exp(Δ_t A) and x_t = Δ_t u_t B_t, is linear. Time is cut into blocks
that fit the cache, and each block into `lanes` equal chunks that advance side by side, one position per call:

    within all lanes    h_j = a_j h_{j-1} + x_j   and the running decay   p_j = a_j p_{j-1}
    from lane to lane   e_{i+1} = h_last,i + p_last,i e_i
    within all lanes    h_j += p_j e_i

Only products of decays occur, never a quotient and never a cumulated logarithm, so the result is as stable as the plain
loop for any A, and overflows where the loop overflows. With one lane the last two lines vanish: the fastest form on a
CPU once the batch and the channels alone fill a call (see `plan_blocks`). The exponential, the dearest operation, is
taken once per state in either pass.

Source: the recurrence is Mamba (Gu and Dao 2023, https://arxiv.org/abs/2312.00752, equation 2, B by Euler's rule as in
its code); the lanes are the chunks of Martin and Cundy 2018 (https://arxiv.org/abs/1709.04057, section 2). The gradient
g_t = C_t ȳ_t + a_{t+1} g_{t+1} is the same recurrence run backwards, and is computed by the same function.

Axes: b batch rows of one slab, q lanes, s positions per lane, d channels of one slab, n states, L time.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_STEP_ELEMENTS = {"cpu": 2**14, "cuda": 2**20}  # states advanced by one call: below this, call overhead dominates
_BLOCK_ELEMENTS = {"cpu": 2**19, "cuda": 2**22}  # states held per buffer: 2 MiB stays in the L2 caches of two cores


@dataclass(frozen=True)
class Plan:
    """How a problem is cut. The buffers hold about six times `rows * channels * N * lanes * steps` numbers."""

    rows: int  # batch rows per slab
    channels: int  # channels per slab
    lanes: int
    steps: int  # positions per lane
    blocks: int  # blocks along time

    @property
    def tokens(self) -> int:
        """Tokens per block."""
        return self.lanes * self.steps


def plan_blocks(batch: int, channels: int, states: int, length: int, device: str) -> Plan:
    """Cuts a scan of `channels` per group into slabs, blocks and lanes. Depends on shapes only, as fake tensors need.

    Args:
        batch: Batch size B.
        channels: Channels per group, D / G.
        states: State size N.
        length: Tokens L.
        device: Device type, for example "cpu".
    """
    step = _STEP_ELEMENTS.get(device, _STEP_ELEMENTS["cuda"])
    block = _BLOCK_ELEMENTS.get(device, _BLOCK_ELEMENTS["cuda"])
    width = max(1, min(channels, step // states))
    rows = max(1, min(batch, step // (width * states)))
    position = max(1, rows * width * states)
    blocks = -(-length // max(16, block // position))
    tokens = -(-length // blocks)  # equal blocks, so that little of the last one is padding
    lanes = max(1, min(step // position, math.isqrt(tokens)))
    steps = -(-tokens // lanes)
    return Plan(rows, width, lanes, steps, -(-length // (lanes * steps)))


@torch.no_grad()
def forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (B, D, L) in u's dtype, last states (B, D, N), and the states before each block (blocks, B, D, N)."""
    batch, channels, length = u.shape
    groups, states = B.shape[1], B.shape[2]
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    plan = plan_blocks(batch, channels // groups, states, length, u.device.type)
    out = u.new_empty(batch, length, channels).transpose(1, 2)
    last = u.new_empty(batch, states, channels, dtype=dtype).transpose(1, 2)
    starts = u.new_empty(plan.blocks, batch, states, channels, dtype=dtype).transpose(2, 3)
    with _one_thread(u.device):
        for rows, cols, group in _slabs(plan, batch, channels, groups):
            slab = _Slab(plan, u, delta, A, B, C, delta_bias, delta_softplus, rows, cols, group, dtype)
            skip = None if D is None else D[cols].to(dtype)
            carry: Tensor | None = None
            for index in range(plan.blocks):
                start = starts[index, rows, cols].transpose(1, 2)
                start.zero_() if carry is None else start.copy_(carry)
                u_block, delta_block, _ = slab.inputs(index)
                carry = slab.advance(index, u_block, delta_block, start)
                y = slab.contract(slab.block(slab.C, index), slab.state[1:])
                slab.write(out, index, y if skip is None else y.addcmul_(u_block, skip))
            if carry is not None:
                last[rows, cols].transpose(1, 2).copy_(carry)
    return out, last, starts


@torch.no_grad()
def backward(
    grad_out: Tensor,
    grad_last: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    starts: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, delta, A, B, C, D and delta_bias; those of absent options are empty tensors.

    a_t h_{t-1} in the gradients of Δ and A is formed from the recomputed states; h_t - Δ_t u_t B_t, as mamba-ssm's CUDA
    kernel has it, cancels when the decay is small.
    """
    batch, channels, length = u.shape
    groups, states = B.shape[1], B.shape[2]
    dtype = starts.dtype
    plan = plan_blocks(batch, channels // groups, states, length, u.device.type)
    grad_u, grad_delta = (x.new_empty(batch, length, channels).transpose(1, 2) for x in (u, delta))
    grad_A = A.new_zeros(states, channels, dtype=dtype)
    grad_B, grad_C = (x.new_zeros(batch, groups, length, states, dtype=dtype).transpose(2, 3) for x in (B, C))
    grad_D, grad_bias = (u.new_zeros(channels, dtype=dtype) for _ in range(2))
    with _one_thread(u.device):
        for rows, cols, group in _slabs(plan, batch, channels, groups):
            slab = _Slab(plan, u, delta, A, B, C, delta_bias, delta_softplus, rows, cols, group, dtype)
            grad_view = grad_out[rows, cols].transpose(1, 2)
            skip = None if D is None else D[cols].to(dtype)
            grad, weighted, sum_A = slab.buffer(plan.steps + 1), slab.buffer(plan.steps), slab.buffer(1)[0].zero_()
            # Backwards in time, position j is reached from j + 1 by the decay a_{j+1}; `decay` has a slot for that of
            # the token after the lane, and slot s of `grad` receives the gradients that enter the lanes.
            decays, grads = slab.decay[1:].unbind(0)[::-1], grad.unbind(0)[-1:] + grad[:-1].unbind(0)[::-1]
            next_decay = torch.ones_like(sum_A[:, 0])
            carry = torch.zeros_like(next_decay)
            if grad_last is not None:
                carry.copy_(grad_last[rows, cols].transpose(1, 2))
            for index in reversed(range(plan.blocks)):
                u_block, delta_block, raw = slab.inputs(index)
                slab.advance(index, u_block, delta_block, starts[index, rows, cols].transpose(1, 2))
                dy, g, decay = slab.block(grad_view, index), grad[:-1], slab.decay[:-1]

                torch.mul(dy.unsqueeze(-2), slab.block(slab.C, index).unsqueeze(-1), out=g)
                slab.decay[-1, :, :-1] = decay[0, :, 1:]
                slab.decay[-1, :, -1] = next_decay
                next_decay.copy_(decay[0, :, 0])
                carry.copy_(_advance(decays, grads, carry, slab.running, reverse=True))

                slab.add(grad_B, index, torch.matmul(g, (delta_block * u_block).unsqueeze(-1)).squeeze(-1))
                slab.add(grad_C, index, torch.matmul(slab.state[1:], dy.unsqueeze(-1)).squeeze(-1))
                through_B = slab.contract(slab.block(slab.B, index), g)  # the gradient of Δ_t u_t
                du = delta_block * through_B
                if skip is not None:
                    du.addcmul_(dy, skip)
                    grad_D[cols] += (dy * u_block).sum((0, 1, 2))
                slab.write(grad_u, index, du)

                torch.mul(decay, g, out=weighted).mul_(slab.state[:-1])  # g_t a_t h_{t-1}, for A and for Δ
                for delta_position, position in zip(delta_block.unsqueeze(-2), weighted.unbind(0), strict=True):
                    sum_A.addcmul_(position, delta_position)
                d_delta = weighted.mul_(slab.A).sum(-2).addcmul_(u_block, through_B)
                if delta_softplus:
                    d_delta = torch.where(raw > 20, d_delta, d_delta * torch.sigmoid(raw))
                d_delta = slab.valid(index, d_delta)
                grad_bias[cols] += d_delta.sum((0, 1))
                first = index * plan.tokens
                grad_delta[rows, cols, first : first + plan.tokens].transpose(1, 2).copy_(d_delta)
            grad_A[:, cols] += sum_A.sum((0, 1))
    return (
        grad_u,
        grad_delta,
        grad_A.T.to(A.dtype),
        grad_B.to(B.dtype),
        grad_C.to(C.dtype),
        u.new_empty(0) if D is None else grad_D.to(D.dtype),
        u.new_empty(0) if delta_bias is None else grad_bias.to(delta_bias.dtype),
    )


def _slabs(plan: Plan, batch: int, channels: int, groups: int) -> Iterator[tuple[slice, slice, int]]:
    """Every (batch rows, channels, group) that is processed on its own."""
    size = channels // groups
    for group in range(groups):
        for first in range(group * size, (group + 1) * size, plan.channels):
            cols = slice(first, min(first + plan.channels, (group + 1) * size))
            for row in range(0, batch, plan.rows):
                yield slice(row, min(row + plan.rows, batch)), cols, group


def _advance(
    decays: Sequence[Tensor], states: Sequence[Tensor], carry: Tensor, running: Sequence[Tensor], reverse: bool
) -> Tensor:
    """Runs h_j = a_j h_{j-1} + x_j over a block, in place.

    Args:
        decays: a_j of every position, each (b, q, n, d).
        states: One entry more: the first receives the states that enter the lanes, the others hold x_j and receive h_j.
        carry: State (b, n, d) that enters the block.
        running: Scratch for p_j, shaped as `decays`; unused with one lane.
        reverse: Whether the last lane comes first in the order of the recurrence.

    Returns:
        The state (b, n, d) that leaves the block, a view of the last entry of `states`.
    """
    enter, leave = states[0], states[-1]
    order = list(range(enter.shape[1]))
    if reverse:
        order.reverse()
    if len(order) == 1:
        enter[:, 0] = carry
        for decay, (before, state) in zip(decays, itertools.pairwise(states), strict=True):
            state.addcmul_(decay, before)
        return leave[:, 0]
    running[0].copy_(decays[0])
    for position in range(1, len(decays)):
        states[position + 1].addcmul_(decays[position], states[position])
        torch.mul(running[position - 1], decays[position], out=running[position])
    total = running[-1]
    enter[:, order[0]] = carry
    for lane, following in itertools.pairwise(order):
        torch.addcmul(leave[:, lane], total[:, lane], enter[:, lane], out=enter[:, following])
    for state, product in zip(states[1:], running, strict=True):
        state.addcmul_(product, enter)
    return leave[:, order[-1]]


def _softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), and x above 20: `torch.nn.functional.softplus` at less than half its time on a CPU.

    log1p(y) is log(t) + (y - (t - 1)) / t with t = 1 + y rounded: the second term returns what the rounding took, so
    that small Δ keep their precision.
    """
    y = torch.exp(x)
    t = y + 1
    lost = torch.sub(y, t - 1)
    return torch.where(x > 20, x, torch.log(t).addcdiv_(lost, t))


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """Keeps the calls inside on one CPU core: each takes tens of microseconds, and all work on the same cache.

    Waking other threads for each gains little when they are idle, and multiplies the time by ten when they are not.
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


class _Slab:
    """One set of batch rows and channels: channel-last views of its inputs, and buffers reused by all its blocks."""

    def __init__(
        self,
        plan: Plan,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        delta_bias: Tensor | None,
        delta_softplus: bool,
        rows: slice,
        cols: slice,
        group: int,
        dtype: torch.dtype,
    ) -> None:
        self.plan, self.rows, self.cols, self.group = plan, rows, cols, group
        self.dtype, self.softplus, self.length = dtype, delta_softplus, u.shape[2]
        self.u, self.delta = u[rows, cols].transpose(1, 2), delta[rows, cols].transpose(1, 2)
        self.B, self.C = B[rows, group].transpose(1, 2), C[rows, group].transpose(1, 2)
        self.A = A[cols].to(dtype).T.contiguous()
        self.A_log2 = self.A * math.log2(math.e)
        self.bias = None if delta_bias is None else delta_bias[cols].to(dtype)
        self.state, self.decay = self.buffer(plan.steps + 1), self.buffer(plan.steps + 1)
        self.states, self.decays = self.state.unbind(0), self.decay[:-1].unbind(0)
        self.running = self.buffer(plan.steps if plan.lanes > 1 else 0).unbind(0)

    def buffer(self, positions: int) -> Tensor:
        """Uninitialised numbers (positions, b, q, n, d)."""
        shape = (positions, self.u.shape[0], self.plan.lanes, *self.A.shape)
        return torch.empty(shape, dtype=self.dtype, device=self.u.device)

    def block(self, x: Tensor, index: int) -> Tensor:
        """Tokens of one block of x (b, L, w) as (s, b, q, w), zero beyond the end of the sequence."""
        tokens = self.plan.tokens
        piece = x[:, index * tokens : (index + 1) * tokens].to(self.dtype)
        if piece.shape[1] < tokens:
            piece = F.pad(piece, (0, 0, 0, tokens - piece.shape[1]))
        return piece.unflatten(1, (self.plan.lanes, self.plan.steps)).permute(2, 0, 1, 3).contiguous()

    def valid(self, index: int, x: Tensor) -> Tensor:
        """The inverse of `block` within the sequence: (s, b, q, w) to (b, t, w)."""
        return x.permute(1, 2, 0, 3).flatten(1, 2)[:, : self.length - index * self.plan.tokens]

    def write(self, target: Tensor, index: int, x: Tensor) -> None:
        """Stores x (s, b, q, d) into target (B, D, L)."""
        first = index * self.plan.tokens
        target[self.rows, self.cols, first : first + self.plan.tokens].transpose(1, 2).copy_(self.valid(index, x))

    def add(self, target: Tensor, index: int, x: Tensor) -> None:
        """Adds x (s, b, q, n) to target (B, G, N, L)."""
        first = index * self.plan.tokens
        target[self.rows, self.group, :, first : first + self.plan.tokens].transpose(1, 2).add_(self.valid(index, x))

    def inputs(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """u, Δ and delta before softplus of one block, each (s, b, q, d); Δ = 0 beyond the end freezes the state."""
        u, raw = self.block(self.u, index), self.block(self.delta, index)
        if self.bias is not None:
            raw = raw + self.bias
        delta = _softplus(raw) if self.softplus else raw
        excess = (index + 1) * self.plan.tokens - self.length
        if excess > 0 and (self.softplus or self.bias is not None):
            mask = torch.arange(self.plan.tokens, device=u.device) < self.plan.tokens - excess
            delta = delta * mask.view(1, self.plan.lanes, self.plan.steps, 1).permute(2, 0, 1, 3)
        return u, delta, raw

    def advance(self, index: int, u: Tensor, delta: Tensor, carry: Tensor) -> Tensor:
        """Fills `decay` and `state` (slot 0: the entering states); returns the state that leaves the block."""
        torch.mul(delta.unsqueeze(-2), self.A_log2, out=self.decay[:-1]).exp2_()
        torch.mul((delta * u).unsqueeze(-2), self.block(self.B, index).unsqueeze(-1), out=self.state[1:])
        return _advance(self.decays, self.states, carry, self.running, reverse=False)

    def contract(self, weights: Tensor, states: Tensor) -> Tensor:
        """Σ_n of weights (s, b, q, n) times states (s, b, q, n, d)."""
        return torch.matmul(weights.unsqueeze(-2), states).squeeze(-2)
