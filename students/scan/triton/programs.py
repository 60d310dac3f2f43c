"""The selective scan in Triton: the programs of its forward and backward pass. Importing it imports Triton.

The steps of a direction are cut into chunks, before each of which training keeps the states; a run of chunks is a
segment. One program walks one segment of a block of channels, token by token, with the states in registers. Where
blocks alone make too few programs for the GPU, the segments of a sequence run side by side, from states that
`local_states` and `join` find in advance; `local_gradients` and `join` find the gradients that enter from the end.

What several programs contribute to is written as partial sums, which the host adds up in a fixed order: there are no
atomics, and results repeat bit by bit.

The states of single steps are kept in `scratch` alone, those of one chunk, 64 KiB, for every program that runs at once.
So the GPU bounds it, 139 MB at 132 multiprocessors, whatever the scan; one too small to fill the GPU has all its states
in there.

Axes: B batch, K directions, S segments, P tokens of the image, D channels, G groups, N states.

Source: the gradient is g_t = C_t ȳ_t + a_{t+1} g_{t+1}, the recurrence of the states in reverse; segments are the
chunks of Martin and Cundy 2018 (https://arxiv.org/abs/1709.04057, section 2).
"""

import triton
import triton.language as tl

from students.scan.triton.arguments import Inputs, Targets
from students.scan.triton.tiles import (
    Place,
    advance,
    channels,
    keep,
    place,
    read_channels,
    read_parameter,
    read_projection,
    read_rate,
    read_states,
    read_tile,
    span,
    step_size,
    tile,
    token,
    turns,
)

_LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def local_states(x: Inputs, ends: tl.tuple, sums: tl.tuple, F: tl.constexpr) -> None:
    """The states at the end of every segment if none entered it, (B, K, S, D, N), and its ΣΔ, (B, K, S, D)."""
    at = place(x, F)
    length, first, last = span(at, x, F)
    rate, projection, bias = read_rate(at, x), read_projection(at, x, F), read_parameter(x.bias, at)
    state = tl.full([F.rows, F.states_tile, F.lanes], 0.0, tl.float32)
    total = tl.full([F.rows, F.lanes], 0.0, tl.float32)
    begin = first * F.chunk
    for i in range(0, tl.minimum(last * F.chunk, length) - begin):
        p = token(begin + i, at, x)
        delta, _ = step_size(p, projection, bias, at, x, F)
        total += delta
        state = advance(state, p, delta, read_channels(x.u, p, at), rate, at, x, F)
    tl.store(tile(ends, at.s, at), state, mask=at.tile)
    tl.store(channels(sums, at.s, at), total, mask=at.channels)


@triton.jit
def local_gradients(x: Inputs, grad_y: tl.tuple, ends: tl.tuple, sums: tl.tuple, F: tl.constexpr) -> None:
    """As `local_states` for gradients: a_t g_t at the first step t of every segment if none entered it from its end."""
    at = place(x, F)
    length, first, last = span(at, x, F)
    rate, projection, bias = read_rate(at, x), read_projection(at, x, F), read_parameter(x.bias, at)
    flow = tl.full([F.rows, F.states_tile, F.lanes], 0.0, tl.float32)
    total = tl.full([F.rows, F.lanes], 0.0, tl.float32)
    begin = first * F.chunk
    steps = tl.minimum(last * F.chunk, length) - begin
    for i in range(0, steps):
        p = token(begin + steps - 1 - i, at, x)
        delta, _ = step_size(p, projection, bias, at, x, F)
        total += delta
        grad = read_states(x.C, p, at) * read_channels(grad_y, p, at)[:, None, :] + flow
        flow = keep(tl.exp2(rate * delta[:, None, :]) * grad, at, F)
    tl.store(tile(ends, at.s, at), flow, mask=at.tile)
    tl.store(channels(sums, at.s, at), total, mask=at.channels)


@triton.jit
def join(
    x: Inputs,
    ends: tl.tuple,
    sums: tl.tuple,
    initial: tl.tuple,
    entering: tl.tuple,
    segments: tl.tensor,
    F: tl.constexpr,
    BACKWARDS: tl.constexpr,
) -> None:
    """What enters every segment, (B, K, S, D, N), given what enters the first of them, or backwards the last.

    The decay over a segment may over- or underflow where its product with the state, step by step, does not. Zero and
    infinity pass unchanged, as they do through finite decays.
    """
    at = place(x, F)
    rate = read_rate(at, x)
    flow = read_tile(initial, 0, at, F)
    for i in range(0, segments):
        s = at.s + i  # at.s is zero: there is one program for all segments
        if BACKWARDS:
            s = segments - 1 - s
        tl.store(tile(entering, s, at), flow, mask=at.tile)
        decay = tl.exp2(rate * read_channels(sums, s, at)[:, None, :])
        fixed = (flow == 0.0) | (tl.abs(flow) == float("inf"))
        flow = tl.where(fixed, flow, decay * flow) + read_tile(ends, s, at, F)


@triton.jit
def outputs(
    x: Inputs,
    entering: tl.tuple,
    z: tl.tuple,
    out: tl.tuple,
    ungated: tl.tuple,
    last_state: tl.tuple,
    starts: tl.tuple,
    scale: tl.tensor,
    F: tl.constexpr,
) -> None:
    """scale (C h + D u) of every direction, (B, K, P, D), gated where z is given; the last states (B, K, 1, D, N).

    In training also what the backward pass needs: outputs before the gate, and states before every chunk
    (B, K, chunks, D, N).
    """
    at = place(x, F)
    length, first, last = span(at, x, F)
    rate, projection, bias = read_rate(at, x), read_projection(at, x, F), read_parameter(x.bias, at)
    skip = read_parameter(x.D, at)
    state = read_tile(entering, at.s, at, F)
    for c in range(0, last - first):
        chunk = first + c
        if starts is not None:
            tl.store(tile(starts, chunk, at), state, mask=at.tile)
        begin = chunk * F.chunk
        for i in range(0, tl.minimum(F.chunk, length - begin)):
            p = token(begin + i, at, x)
            u = read_channels(x.u, p, at)
            delta, _ = step_size(p, projection, bias, at, x, F)
            state = advance(state, p, delta, u, rate, at, x, F)
            y = tl.sum(state * read_states(x.C, p, at), axis=1)
            if skip is not None:
                y += skip * u
            y *= scale
            if ungated is not None:
                tl.store(channels(ungated, p, at), y, mask=at.channels)
            if z is not None:
                gate = read_channels(z, p, at)
                y *= gate / (1.0 + tl.exp(-gate))
            tl.store(channels(out, p, at), y, mask=at.channels)
    if tl.program_id(1) == tl.num_programs(1) - 1:
        tl.store(tile(last_state, 0, at), state, mask=at.tile)


@triton.jit
def add_states(x: tl.tuple, values: tl.tensor, p: tl.tensor, turn: tl.tensor, at: Place, F: tl.constexpr) -> None:
    """Adds values (N) to token p of this part's sums in x (B, K, G, P, N, parts); the first turn sets them."""
    row = x[0] + (at.b * x[1] + at.k * x[2] + at.g * x[3] + p * x[4] + at.part * x[6])
    if F.walk > 1:
        values += tl.load(row + at.n * x[5], mask=at.states & (turn > 0), other=0)
    tl.store(row + at.n * x[5], values, mask=at.states)


@triton.jit
def gradients(
    x: Inputs,
    first_program: tl.tensor,
    starts: tl.tuple,
    entering: tl.tuple,
    grad_y: tl.tuple,
    to: Targets,
    scratch: tl.tensor,
    F: tl.constexpr,
) -> None:
    """All gradients, those of parameters, B and C as partial sums, from the states before every chunk.

    A program takes the blocks of its part of the channels one after the other, so that the partial sums of B and C are
    few, whatever the registers leave for a block.
    """
    for turn in range(0, turns(first_program, x, F)):
        at = place(x, F, F.walk, first_program, turn)
        block_gradients(at, turn, x, starts, entering, grad_y, to, scratch, F)


@triton.jit
def block_gradients(
    at: Place,
    turn: tl.tensor,
    x: Inputs,
    starts: tl.tuple,
    entering: tl.tuple,
    grad_y: tl.tuple,
    to: Targets,
    scratch: tl.tensor,
    F: tl.constexpr,
) -> None:
    """The gradients of one block of channels over one segment.

    A chunk is walked twice: forwards from its first state, with the states kept in `scratch`, then backwards.
    """
    length, first, last = span(at, x, F)
    rate, projection, bias = read_rate(at, x), read_projection(at, x, F), read_parameter(x.bias, at)
    skip = read_parameter(x.D, at)

    # The rows of a tile are next to each other: one thread holds them all and moves them at once.
    size: tl.constexpr = F.rows * F.states_tile * F.lanes
    row, lane = tl.arange(0, F.rows)[:, None, None], tl.arange(0, F.lanes)[None, None, :]
    entry = (tl.arange(0, F.states_tile)[None, :, None] * F.lanes + lane) * F.rows + row
    memory = scratch + (at.s * tl.num_programs(0) + tl.program_id(0)) * (F.chunk * size) + entry

    flow = read_tile(entering, at.s, at, F)  # a_{t+1} g_{t+1}
    sum_A = tl.full([F.rows, F.states_tile, F.lanes], 0.0, tl.float32)
    sum_D = tl.full([F.rows, F.lanes], 0.0, tl.float32)
    sum_bias = tl.full([F.rows, F.lanes], 0.0, tl.float32)
    for c in range(0, last - first):
        chunk = last - 1 - c
        begin = chunk * F.chunk
        steps = tl.minimum(F.chunk, length - begin)
        state = read_tile(starts, chunk, at, F)
        tl.debug_barrier()  # a thread may read what another wrote, from scratch or, the turn before, in `add_states`
        for i in range(0, steps):
            tl.store(memory + i * size, state)
            p = token(begin + i, at, x)
            delta, _ = step_size(p, projection, bias, at, x, F)
            state = advance(state, p, delta, read_channels(x.u, p, at), rate, at, x, F)
        tl.debug_barrier()
        for i in range(0, steps):
            back = steps - 1 - i
            p = token(begin + back, at, x)
            u, dy = read_channels(x.u, p, at), read_channels(grad_y, p, at)
            delta, slope = step_size(p, projection, bias, at, x, F)
            decay = keep(tl.exp2(rate * delta[:, None, :]), at, F)
            grad = keep(read_states(x.C, p, at) * dy[:, None, :] + flow, at, F)

            sum_B = tl.sum(tl.sum(grad * (delta * u)[:, None, :], axis=0), axis=1)
            sum_C = tl.sum(tl.sum(state * dy[:, None, :], axis=0), axis=1)
            add_states(to.B, sum_B, p, turn, at, F)
            add_states(to.C, sum_C, p, turn, at, F)

            through_B = tl.sum(grad * read_states(x.B, p, at), axis=1)  # the gradient of Δ_t u_t
            du = delta * through_B
            if skip is not None:
                du += skip * dy
                sum_D += dy * u
            tl.store(channels(to.u, p, at), du, mask=at.channels)

            state = tl.load(memory + back * size)
            flow = decay * grad
            through_decay = flow * state  # g_t a_t h_{t-1}; h_t - Δ_t u_t B_t for a_t h_{t-1} cancels at small decays
            sum_A += through_decay * delta[:, None, :]
            d_delta = tl.sum(through_decay * rate, axis=1) * _LN_2 + u * through_B
            if slope is not None:
                d_delta *= slope
            sum_bias += d_delta
            tl.store(channels(to.delta, p, at), d_delta, mask=at.channels)
    tl.store(tile(to.A, at.s, at), sum_A, mask=at.tile)
    if to.D is not None:
        tl.store(channels(to.D, at.s, at), sum_D, mask=at.channels)
    if to.bias is not None:
        tl.store(channels(to.bias, at.s, at), sum_bias, mask=at.channels)
    if (to.initial is not None) and (tl.program_id(1) == 0):
        tl.store(tile(to.initial, 0, at), flow, mask=at.tile)
