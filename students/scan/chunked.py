"""The selective scan in plain PyTorch, blocked over time: the backend that runs everywhere.

The recurrence h_t = a_t h_{t-1} + x_t, with a_t = exp(Δ_t A) and x_t = Δ_t u_t B_t, is linear. Time is cut into blocks
that fit the cache, and each block into `lanes` equal chunks that advance side by side, one position of all per call:

    within all lanes    l_j = a_j l_{j-1} + x_j from l = 0, and the decay over the lane p = Π a_j
    from lane to lane   e_{i+1} = l_last,i + p_i e_i, the state that enters lane i + 1
    within all lanes    h_j = a_j h_{j-1} + x_j from e_i

Only products of decays occur, never a quotient and never a cumulated logarithm, so the result is as stable as the plain
loop for any A, and overflows where the loop overflows. The exponential, the dearest operation, is taken once per state
in either pass.

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

# Chunks that advance together where the sequence is long enough: Python runs once per position of all of them.
_LANES = 8
# States advanced by one call: a slab takes as many rows and channels as stay below with all lanes.
_STEP_ELEMENTS = {"cpu": 2**16, "cuda": 2**20}
# States held per buffer, of which there are up to six: larger ones leave the cache, smaller ones make more calls.
_BLOCK_ELEMENTS = {"cpu": 2**19, "cuda": 2**22}


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
    width = max(1, min(channels, step // (states * _LANES)))
    rows = max(1, min(batch, step // (width * states * _LANES)))
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
                carry = slab.advance(index, start)
                y = slab.contract(slab.read(slab.C, index, slab.weights), slab.state[1:])
                slab.write(out, index, y if skip is None else y.addcmul_(slab.u_block, skip))
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
            grad, product, sum_A = slab.states(plan.steps + 1), slab.states(plan.steps), slab.states(1)[0].zero_()
            g, decay, dy, du = grad[:-1], slab.decay[:-1], slab.tokens(slab.width), slab.tokens(slab.width)
            # Backwards in time, position j is reached from j + 1 by the decay a_{j+1}; `decay` has a slot for that of
            # the token after the lane, and slot s of `grad` receives the gradients that enter the lanes.
            decays, grads = slab.decay[1:].unbind(0)[::-1], grad.unbind(0)[-1:] + g.unbind(0)[::-1]
            next_decay = torch.ones_like(sum_A[:, 0])
            carry = torch.zeros_like(next_decay)
            if grad_last is not None:
                carry.copy_(grad_last[rows, cols].transpose(1, 2))
            for index in reversed(range(plan.blocks)):
                slab.advance(index, starts[index, rows, cols].transpose(1, 2))
                slab.read(grad_view, index, dy)
                torch.mul(dy.unsqueeze(-2), slab.read(slab.C, index, slab.weights).unsqueeze(-1), out=g)
                slab.decay[-1, :, :-1] = decay[0, :, 1:]
                slab.decay[-1, :, -1] = next_decay
                next_decay.copy_(decay[0, :, 0])
                carry.copy_(_advance(decays, grads, carry, slab.local, slab.total, reverse=True))

                # A product and a sum: as matrices times vectors these take six times as long on a CPU.
                slab.write(grad_C, index, torch.mul(slab.state[1:], dy.unsqueeze(-2), out=product).sum(-1), add=True)
                slab.write(grad_B, index, torch.mul(g, slab.input.unsqueeze(-2), out=product).sum(-1), add=True)
                through_B = slab.contract(slab.read(slab.B, index, slab.weights), g)  # the gradient of Δ_t u_t
                torch.mul(slab.delta_block, through_B, out=du)
                if skip is not None:
                    du.addcmul_(dy, skip)
                    grad_D[cols] += dy.mul_(slab.u_block).sum((0, 1, 2))
                slab.write(grad_u, index, du)

                torch.mul(decay, g, out=product).mul_(slab.state[:-1])  # g_t a_t h_{t-1}, for A and for Δ
                for delta_position, position in zip(slab.delta_block.unsqueeze(-2), product.unbind(0), strict=True):
                    sum_A.addcmul_(position, delta_position)
                d_delta = torch.sum(product.mul_(slab.A), -2, out=du).addcmul_(slab.u_block, through_B)
                if delta_softplus:
                    torch.where(slab.raw > 20, d_delta, torch.sigmoid(slab.raw, out=dy).mul_(d_delta), out=d_delta)
                slab.write(grad_delta, index, d_delta)
                grad_bias[cols] += slab.valid(index, d_delta).sum((0, 1))
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
    decays: Sequence[Tensor], states: Sequence[Tensor], carry: Tensor, local: Tensor, total: Tensor, reverse: bool
) -> Tensor:
    """Runs h_j = a_j h_{j-1} + x_j over a block, in place.

    Args:
        decays: a_j of every position, each (b, q, n, d).
        states: One entry more: the first receives the states that enter the lanes, the others hold x_j and receive h_j.
        carry: State (b, n, d) that enters the block.
        local: Scratch (b, q, n, d) for the state that leaves each lane if none enters it.
        total: Scratch (b, q, n, d) for the decay over each lane.
        reverse: Whether the last lane comes first in the order of the recurrence.

    Returns:
        The state (b, n, d) that leaves the block, a view of the last entry of `states`.
    """
    enter, leave = states[0], states[-1]
    order = list(range(enter.shape[1]))
    if reverse:
        order.reverse()
    enter[:, order[0]] = carry
    if len(order) > 1:
        local.zero_()
        total.fill_(1)
        for decay, state in zip(decays, states[1:], strict=True):
            torch.addcmul(state, decay, local, out=local)
            total.mul_(decay)
        for lane, following in itertools.pairwise(order):
            torch.addcmul(local[:, lane], total[:, lane], enter[:, lane], out=enter[:, following])
    for decay, (before, state) in zip(decays, itertools.pairwise(states), strict=True):
        state.addcmul_(decay, before)
    return leave[:, order[-1]]


def _softplus(x: Tensor, out: Tensor, t: Tensor, lost: Tensor) -> Tensor:
    """log(1 + exp(x)), and x above 20: `torch.nn.functional.softplus` at less than half its time on a CPU.

    log1p(y) is log(t) + (y - (t - 1)) / t with t = 1 + y rounded: the second term returns what the rounding took, so
    that small Δ keep their precision. `t` and `lost` are scratch.
    """
    torch.add(torch.exp(x, out=out), 1, out=t)
    torch.sub(out, torch.sub(t, 1, out=lost), out=lost)
    torch.log(t, out=out).addcdiv_(lost, t)
    return torch.where(x > 20, x, out, out=out)


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
    """One set of batch rows and channels: views of its inputs, channels last, and buffers that all its blocks reuse.

    Buffers rather than temporaries: fresh memory for every intermediate costs more than the arithmetic on it.
    """

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
        self.width = self.A.shape[1]
        # One slot more than positions: before the first for states, after the last for decays.
        self.state, self.decay = self.states(plan.steps + 1), self.states(plan.steps + 1)
        self.each_state, self.each_decay = self.state.unbind(0), self.decay[:-1].unbind(0)
        self.local, self.total = self.states(2).unbind(0)
        self.weights = self.tokens(self.A.shape[0])
        # Of the current block: u, delta before and after softplus, and Δ u.
        self.u_block, self.raw, self.delta_block, self.input = (self.tokens(self.width) for _ in range(4))
        self.sums = self.tokens(self.width)

    def states(self, positions: int) -> Tensor:
        """A buffer (positions, b, q, n, d)."""
        shape = (positions, self.u.shape[0], self.plan.lanes, *self.A.shape)
        return torch.empty(shape, dtype=self.dtype, device=self.u.device)

    def tokens(self, width: int) -> Tensor:
        """A buffer (s, b, q, width)."""
        shape = (self.plan.steps, self.u.shape[0], self.plan.lanes, width)
        return torch.empty(shape, dtype=self.dtype, device=self.u.device)

    def read(self, x: Tensor, index: int, out: Tensor) -> Tensor:
        """Copies the tokens of one block of x (b, L, w) to `out` (s, b, q, w), zero beyond the end of the sequence."""
        tokens = self.plan.tokens
        piece = x[:, index * tokens : (index + 1) * tokens]
        if piece.shape[1] < tokens:
            piece = F.pad(piece, (0, 0, 0, tokens - piece.shape[1]))
        return out.copy_(piece.unflatten(1, (self.plan.lanes, self.plan.steps)).permute(2, 0, 1, 3))

    def valid(self, index: int, x: Tensor) -> Tensor:
        """The inverse of `read` within the sequence: (s, b, q, w) to (b, t, w)."""
        return x.permute(1, 2, 0, 3).flatten(1, 2)[:, : self.length - index * self.plan.tokens]

    def write(self, target: Tensor, index: int, x: Tensor, add: bool = False) -> None:
        """Stores x (s, b, q, w) into one block of target (B, D, L), or adds it to target (B, G, N, L)."""
        first = index * self.plan.tokens
        where = (self.rows, self.group) if add else (self.rows, self.cols)
        piece = target[where][..., first : first + self.plan.tokens].transpose(1, 2)
        piece.add_(self.valid(index, x)) if add else piece.copy_(self.valid(index, x))

    def advance(self, index: int, carry: Tensor) -> Tensor:
        """Computes decays and states of one block from the state before it; returns the state that leaves it."""
        self.read(self.u, index, self.u_block)
        self.read(self.delta, index, self.raw)
        if self.bias is not None:
            self.raw.add_(self.bias)
        if self.softplus:
            _softplus(self.raw, self.delta_block, self.input, self.sums)
        else:
            self.delta_block.copy_(self.raw)
        excess = (index + 1) * self.plan.tokens - self.length
        if excess > 0:  # Δ = 0 beyond the end leaves the state as it is
            inside = torch.arange(self.plan.tokens, device=self.u.device) < self.plan.tokens - excess
            self.delta_block.mul_(inside.view(1, self.plan.lanes, self.plan.steps, 1).permute(2, 0, 1, 3))
        torch.mul(self.delta_block, self.u_block, out=self.input)
        torch.mul(self.delta_block.unsqueeze(-2), self.A_log2, out=self.decay[:-1]).exp2_()
        weights = self.read(self.B, index, self.weights)
        torch.mul(self.input.unsqueeze(-2), weights.unsqueeze(-1), out=self.state[1:])
        return _advance(self.each_decay, self.each_state, carry, self.local, self.total, reverse=False)

    def contract(self, weights: Tensor, states: Tensor) -> Tensor:
        """Σ_n of weights (s, b, q, n) times states (s, b, q, n, d), in the buffer `sums`."""
        left, right, out = weights.flatten(0, 2), states.flatten(0, 2), self.sums.flatten(0, 2)
        torch.bmm(left.unsqueeze(1), right, out=out.unsqueeze(1))
        return self.sums
