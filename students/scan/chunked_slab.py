"""The work of `students.scan.chunked`: some rows and channels of a scan, one block of time per call.

Axes: b batch rows of the slab, q lanes, s positions per lane, d channels of the slab, n states, t tokens of a block,
T all tokens; the scan's as in `students.scan.problem`.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from students.scan.problem import Scan


@dataclass(frozen=True)
class Plan:
    """How a scan is cut. The buffers hold about six times `rows * channels * N * lanes * steps` numbers."""

    rows: int  # batch rows per slab
    channels: int  # channels per slab
    lanes: int
    steps: int  # positions per lane
    blocks: int  # blocks along time

    @property
    def tokens(self) -> int:
        """Tokens per block."""
        return self.lanes * self.steps


@dataclass(frozen=True)
class Part:
    """The rows, direction, channels and group of one slab."""

    rows: slice
    direction: int
    cols: slice
    group: int

    def tokens(self, x: Tensor) -> Tensor:
        """Channels of x (B, K, T, D): (b, T, d)."""
        return x[self.rows, self.direction, :, self.cols]

    def parameters(self, x: Tensor) -> Tensor:
        """Channels of x (K, ...), where D comes last: (..., d)."""
        return x[self.direction, ..., self.cols]

    def states(self, x: Tensor) -> Tensor:
        """Channels of x (B, K, N, D): (b, n, d)."""
        return x[self.rows, self.direction, :, self.cols]

    def weights(self, x: Tensor) -> Tensor:
        """B, C or their gradients: (b, T, n) where variable, (n, d) where constant, x being (K, N, D)."""
        return self.parameters(x) if x.dim() == 3 else x[self.rows, self.direction, self.group]


class Slab:
    """One part of a scan: views of its inputs and buffers that all its blocks reuse.

    Buffers rather than temporaries: fresh memory for every intermediate costs more than the arithmetic on it.
    """

    def __init__(self, scan: Scan, plan: Plan, part: Part) -> None:
        self.plan, self.length, self.softplus = plan, scan.steps, scan.delta_softplus
        self.dtype, self.state_dtype, self.device = scan.dtype, scan.state_dtype, scan.u.device
        self.u, self.delta = part.tokens(scan.u), part.tokens(scan.delta)
        self.B, self.C = (self._weights(x, part) for x in (scan.B, scan.C))
        self.A = part.parameters(scan.A.mT).to(self.state_dtype).contiguous()
        self.A_log2 = self.A * math.log2(math.e)
        self.bias = None if scan.delta_bias is None else part.parameters(scan.delta_bias).to(self.dtype)
        self.skip = None if scan.D is None else part.parameters(scan.D).to(self.dtype)
        # One slot more than positions: before the first for states, after the last for decays.
        self.state, self.decay = self.states(plan.steps + 1), self.states(plan.steps + 1)
        self.each_state, self.each_decay = self.state.unbind(0), self.decay[:-1].unbind(0)
        self.local, self.total = self.states(2).unbind(0)
        self.carry = torch.zeros_like(self.local[:, 0])
        self.weights = self.tokens(self.A.shape[0], self.state_dtype)
        # Of the current block: u, delta before and after softplus, and Δ u.
        self.u_block, self.raw, self.delta_block, self.input = (self.tokens(self.width) for _ in range(4))
        self.sums = self.tokens(self.width, self.state_dtype)

    @staticmethod
    def _weights(x: Tensor, part: Part) -> Tensor:
        return part.weights(x.mT).contiguous() if x.dim() == 3 else part.weights(x)

    @property
    def width(self) -> int:
        """Channels d."""
        return self.A.shape[1]

    @cached_property
    def product(self) -> Tensor:
        """Scratch (s, b, q, n, d)."""
        return self.states(self.plan.steps)

    def states(self, positions: int) -> Tensor:
        """A buffer (positions, b, q, n, d)."""
        shape = (positions, self.u.shape[0], self.plan.lanes, *self.A.shape)
        return torch.empty(shape, dtype=self.state_dtype, device=self.device)

    def tokens(self, width: int, dtype: torch.dtype | None = None) -> Tensor:
        """A buffer (s, b, q, width)."""
        shape = (self.plan.steps, self.u.shape[0], self.plan.lanes, width)
        return torch.empty(shape, dtype=dtype or self.dtype, device=self.device)

    def read(self, x: Tensor, index: int, out: Tensor) -> Tensor:
        """Copies the tokens of one block of x (b, T, w) to `out` (s, b, q, w), zero beyond the end of the sequence."""
        tokens = self.plan.tokens
        piece = x[:, index * tokens : (index + 1) * tokens]
        if piece.shape[1] < tokens:
            piece = F.pad(piece, (0, 0, 0, tokens - piece.shape[1]))
        return out.copy_(piece.unflatten(1, (self.plan.lanes, self.plan.steps)).permute(2, 0, 1, 3))

    def read_weights(self, x: Tensor, index: int) -> Tensor:
        """B or C of one block, to be multiplied with states: (s, b, q, n, 1), or (n, d) where constant."""
        return x if x.dim() == 2 else self.read(x, index, self.weights).unsqueeze(-1)

    def valid(self, index: int, x: Tensor) -> Tensor:
        """The inverse of `read` within the sequence: (s, b, q, w) to (b, t, w)."""
        return x.permute(1, 2, 0, 3).flatten(1, 2)[:, : self.length - index * self.plan.tokens]

    def fill_beyond(self, index: int, x: Tensor, value: float) -> Tensor:
        """Fills x (s, b, q, ...) beyond the end of the sequence, in place.

        There Δ = 0 and decays of 1 leave the state as it is. Sums over time must leave such positions out: zero times a
        state that has overflowed is no zero.
        """
        lanes, steps = self.plan.lanes, self.plan.steps
        rest = self.length - index * self.plan.tokens
        if rest < self.plan.tokens:
            beyond = (torch.arange(self.plan.tokens, device=self.device) >= rest).view(lanes, steps).T
            x.masked_fill_(beyond.reshape(steps, 1, lanes, *(1,) * (x.dim() - 3)), value)
        return x

    def write(self, target: Tensor, index: int, x: Tensor) -> None:
        """Stores x (s, b, q, d) into one block of target (b, T, d)."""
        first = index * self.plan.tokens
        target[:, first : first + self.plan.tokens].copy_(self.valid(index, x))

    def add_weights(self, target: Tensor, index: int, x: Tensor) -> None:
        """Adds x (s, b, q, n, d), summed, to the gradient of B or C, (b, T, n) or (n, d)."""
        if target.dim() == 2:
            target += self.fill_beyond(index, x, 0).sum((0, 1, 2))
        else:  # A product and a sum: as matrices times vectors these take six times as long on a CPU.
            first = index * self.plan.tokens
            target[:, first : first + self.plan.tokens].add_(self.valid(index, x.sum(-1)))

    def contract(self, weights: Tensor, states: Tensor) -> Tensor:
        """Re Σ_n of weights, as from `read_weights`, times states (s, b, q, n, d), in the buffer `sums`."""
        if weights.dim() == 2:
            torch.sum(torch.mul(states, weights, out=self.product), -2, out=self.sums)
        else:
            left, right, out = weights.flatten(0, 2), states.flatten(0, 2), self.sums.flatten(0, 2)
            torch.bmm(left.mT, right, out=out.unsqueeze(1))
        return real(self.sums)

    def advance(self, index: int) -> None:
        """Computes decays and states of one block from the state `carry` before it, which becomes the one after it."""
        self.read(self.u, index, self.u_block)
        self.read(self.delta, index, self.raw)
        if self.bias is not None:
            self.raw.add_(self.bias)
        if self.softplus:
            _softplus(self.raw, self.delta_block, self.input, real(self.sums))
        else:
            self.delta_block.copy_(self.raw)
        self.fill_beyond(index, self.delta_block, 0)
        torch.mul(self.delta_block, self.u_block, out=self.input)
        torch.mul(self.delta_block.unsqueeze(-2), self.A_log2, out=self.decay[:-1]).exp2_()
        self.fill_beyond(index, self.decay[:-1], 1)
        torch.mul(self.input.unsqueeze(-2), self.read_weights(self.B, index), out=self.state[1:])
        self.recur(self.each_decay, self.each_state)

    def recur(self, decays: Sequence[Tensor], states: Sequence[Tensor], reverse: bool = False) -> None:
        """Runs h_j = a_j h_{j-1} + x_j over a block, in place, from the state `carry` to the next one.

        Args:
            decays: a_j of every position, each (b, q, n, d).
            states: One more: the first receives the states that enter the lanes, the others hold x_j and receive h_j.
            reverse: Whether the last lane comes first in the order of the recurrence.
        """
        enter, local, total = states[0], self.local, self.total
        order = list(range(self.plan.lanes))
        if reverse:
            order.reverse()
        enter[:, order[0]] = self.carry
        if len(order) > 1:
            local.zero_()  # the state that leaves each lane if none enters it
            total.fill_(1)  # the decay over each lane
            for decay, state in zip(decays, states[1:], strict=True):
                torch.addcmul(state, decay, local, out=local)
                total.mul_(decay)
            for lane, following in itertools.pairwise(order):
                torch.addcmul(local[:, lane], total[:, lane], enter[:, lane], out=enter[:, following])
        for decay, (before, state) in zip(decays, itertools.pairwise(states), strict=True):
            state.addcmul_(decay, before)
        self.carry.copy_(states[-1][:, order[-1]])


def real(x: Tensor) -> Tensor:
    """The real part as a view."""
    return x.real if x.is_complex() else x


def _softplus(x: Tensor, out: Tensor, t: Tensor, lost: Tensor) -> Tensor:
    """log(1 + exp(x)), and x above 20: `torch.nn.functional.softplus` at less than half its time on a CPU.

    log1p(y) is log(t) + (y - (t - 1)) / t with t = 1 + y rounded: the second term returns what the rounding took, so
    that small Δ keep their precision. `t` and `lost` are scratch.
    """
    torch.add(torch.exp(x, out=out), 1, out=t)
    torch.sub(out, torch.sub(t, 1, out=lost), out=lost)
    torch.log(t, out=out).addcdiv_(lost, t)
    return torch.where(x > 20, x, out, out=out)
