"""The selective scan in Triton: what a program reads and computes per token. Importing it imports Triton.

A block of channels is a grid (ROWS, LANES), a tile of states (ROWS, N, LANES). Triton spreads the 32 threads of a warp
over the last axis first: with 32 lanes a thread owns all states of its channel and sums over N within; with 8, four
threads share them, which balances the sums over N with the sums over channels in dB and dC. Axes are padded to powers
of two, and padding is set to zero wherever it could reach a sum, for 0·inf is NaN.

Pointers of tiles are said not to be contiguous: for the widest loads of them, which happen once, Triton would lay tiles
out such that threads exchange data at every token.

Layouts and block sizes follow from the registers and instructions of the compiled programs (NVIDIA sm_90). No time is
measured: the programs have never run on a GPU.

Offsets into tensors take 64 bits.

Axes: B batch, K directions, S segments, P tokens of the image, T steps of a direction, D channels, G groups, N states,
R rank of Δ.

Source: the recurrence is Mamba (Gu and Dao 2023, https://arxiv.org/abs/2312.00752, equation 2, B by Euler's rule as in
its code).
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from students.scan.triton.arguments import Inputs

_LOG2_E = tl.constexpr(1.4426950408889634)  # the hardware's exponential has base two


class Place(NamedTuple):
    """The position of a program in the grid.

    Args:
        b: Image.
        k: Direction.
        g: Group.
        part: Part of the group's channels, of one or more blocks.
        s: Segment.
        d: Channels (ROWS, LANES).
        n: States (N).
        channels: Which channels exist.
        states: Which states exist.
        tile: Which entries (ROWS, N, LANES) of a tile exist.
    """

    b: Any
    k: Any
    g: Any
    part: Any
    s: Any
    d: Any
    n: Any
    channels: Any
    states: Any
    tile: Any


@triton.jit
def turns(first: tl.tensor, x: Inputs, F: tl.constexpr) -> tl.tensor:
    """The blocks of channels in this program's part: the last part may have fewer."""
    blocks = tl.cdiv(x.width, F.rows * F.lanes)
    part = (first + tl.program_id(0)) % tl.cdiv(blocks, F.walk)
    return tl.minimum(F.walk, blocks - part * F.walk)


@triton.jit
def place(x: Inputs, F: tl.constexpr, WALK: tl.constexpr = 1, first: tl.tensor = 0, turn: tl.tensor = 0) -> Place:
    """The position of this program. Axis 0 of the grid counts, from `first`, images, directions, groups and parts.

    Args:
        x: Inputs.
        F: Configuration.
        WALK: Blocks of channels in a part.
        first: The program that this launch begins with.
        turn: Which block of its part the program is at.
    """
    size: tl.constexpr = F.rows * F.lanes
    parts = tl.cdiv(tl.cdiv(x.width, size), WALK)
    program = first + tl.program_id(0)
    image = program // (parts * x.groups)
    g = (program // parts) % x.groups
    part = program % parts
    d = (part * WALK + turn) * size + tl.arange(0, F.rows)[:, None] * F.lanes + tl.arange(0, F.lanes)[None, :]
    n = tl.arange(0, F.states_tile)
    channels = d < x.width
    states = n < F.states
    return Place(
        (image // x.directions).to(tl.int64),
        (image % x.directions).to(tl.int64),
        g.to(tl.int64),
        part.to(tl.int64),
        tl.program_id(1).to(tl.int64),
        (g * x.width + d).to(tl.int64),
        n.to(tl.int64),
        channels,
        states,
        channels[:, None, :] & states[None, :, None],
    )


@triton.jit
def span(at: Place, x: Inputs, F: tl.constexpr) -> tl.tuple:
    """The steps of this direction, and the chunks of this segment: the first, and the one after the last."""
    length = x.steps
    if x.lengths is not None:
        length = tl.load(x.lengths + at.k)
    first = at.s * x.segment
    return length, first, tl.minimum(first + x.segment, tl.cdiv(length, F.chunk))


@triton.jit
def token(t: tl.tensor, at: Place, x: Inputs) -> tl.tensor:
    """The token that this direction visits at step t."""
    p = t
    if x.order is not None:
        p = tl.load(x.order[0] + at.k * x.order[1] + t * x.order[2]).to(tl.int64)
    return p


@triton.jit
def channels(x: tl.tuple, p: tl.tensor, at: Place) -> tl.tensor:
    """Pointers (ROWS, LANES) into token p of x (B, K, P, D)."""
    return x[0] + (at.b * x[1] + at.k * x[2] + p * x[3]) + at.d * x[4]


@triton.jit
def read_channels(x: tl.tuple, p: tl.tensor, at: Place) -> tl.tensor:
    """Token p of x (B, K, P, D) as (ROWS, LANES)."""
    return tl.load(channels(x, p, at), mask=at.channels, other=0).to(tl.float32)


@triton.jit
def read_states(x: tl.tuple, p: tl.tensor, at: Place) -> tl.tensor:
    """Token p of x (B, K, G, P, N) as (1, N, 1)."""
    row = x[0] + (at.b * x[1] + at.k * x[2] + at.g * x[3] + p * x[4])
    return tl.load(row + at.n * x[5], mask=at.states, other=0).to(tl.float32)[None, :, None]


@triton.jit
def tile(x: tl.tuple, s: tl.tensor, at: Place) -> tl.tensor:
    """Pointers (ROWS, N, LANES) into entry s of x (B, K, S, D, N)."""
    row = x[0] + (at.b * x[1] + at.k * x[2] + s * x[3])
    return tl.max_contiguous(row + at.d[:, None, :] * x[4] + at.n[None, :, None] * x[5], [1, 1, 1])


@triton.jit
def read_tile(x: tl.tuple, s: tl.tensor, at: Place, F: tl.constexpr) -> tl.tensor:
    """Entry s of x (B, K, S, D, N) as a tile; zero if there is no x."""
    values = tl.full([F.rows, F.states_tile, F.lanes], 0.0, tl.float32)
    if x is not None:
        values = tl.load(tile(x, s, at), mask=at.tile, other=0).to(tl.float32)
    return values


@triton.jit
def read_parameter(x: tl.tuple, at: Place) -> tl.tensor:
    """Parameter x (K, D) as (ROWS, LANES); None if there is no x."""
    values = None
    if x is not None:
        values = tl.load(x[0] + at.k * x[1] + at.d * x[2], mask=at.channels, other=0).to(tl.float32)
    return values


@triton.jit
def read_rate(at: Place, x: Inputs) -> tl.tensor:
    """A log2(e) as a tile: 2 to the power of its product with Δ is the decay."""
    pointers = x.A[0] + at.k * x.A[1] + at.d[:, None, :] * x.A[2] + at.n[None, :, None] * x.A[3]
    return tl.load(tl.max_contiguous(pointers, [1, 1, 1]), mask=at.tile, other=0).to(tl.float32) * _LOG2_E


@triton.jit
def read_projection(at: Place, x: Inputs, F: tl.constexpr) -> tl.tensor:
    """The rows of Δ's projection for these channels, (ROWS, R, LANES); None without projection."""
    values = None
    if x.weight is not None:
        r = tl.arange(0, F.rank_tile).to(tl.int64)
        pointers = x.weight[0] + at.k * x.weight[1] + at.d[:, None, :] * x.weight[2] + r[None, :, None] * x.weight[3]
        exists = at.channels[:, None, :] & (r < F.rank)[None, :, None]
        values = tl.load(tl.max_contiguous(pointers, [1, 1, 1]), mask=exists, other=0).to(tl.float32)
    return values


@triton.jit
def softplus(x: tl.tensor) -> tl.tuple:
    """log(1 + exp(x)), and x above 20, with its derivative.

    log1p(y) is log(t) + (y - (t - 1)) / t with t = 1 + y rounded: the second term returns what the rounding took.
    """
    y = tl.exp(x)
    t = 1.0 + y
    return tl.where(x > 20.0, x, tl.log(t) + (y - (t - 1.0)) / t), tl.where(x > 20.0, 1.0, y / t)


@triton.jit
def step_size(p: tl.tensor, projection: tl.tensor, bias: tl.tensor, at: Place, x: Inputs, F: tl.constexpr) -> tl.tuple:
    """Δ (ROWS, LANES) of token p, and the derivative of its softplus; None without softplus."""
    slope = None
    if projection is None:
        delta = read_channels(x.delta, p, at)
    else:
        r = tl.arange(0, F.rank_tile).to(tl.int64)
        row = x.delta[0] + (at.b * x.delta[1] + at.k * x.delta[2] + p * x.delta[3])
        factor = tl.load(row + r * x.delta[4], mask=r < F.rank, other=0).to(tl.float32)
        delta = tl.sum(projection * factor[None, :, None], axis=1)
        if F.padded:
            delta = tl.where(at.channels, delta, 0.0)
    if bias is not None:
        delta += bias
    if F.softplus:
        delta, slope = softplus(delta)
    return delta, slope


@triton.jit
def keep(values: tl.tensor, at: Place, F: tl.constexpr) -> tl.tensor:
    """A tile with its padding set to zero."""
    if F.padded:
        values = tl.where(at.tile, values, 0.0)
    return values


@triton.jit
def advance(
    state: tl.tensor,
    p: tl.tensor,
    delta: tl.tensor,
    u: tl.tensor,
    rate: tl.tensor,
    at: Place,
    x: Inputs,
    F: tl.constexpr,
) -> tl.tensor:
    """The state after token p."""
    decay = tl.exp2(rate * delta[:, None, :])
    return keep(decay * state + (delta * u)[:, None, :] * read_states(x.B, p, at), at, F)
