"""Arguments of the Triton programs. Tensors are tuples of a pointer and the strides of their axes.

Axes: B batch, K directions, S segments, T steps of a direction, P tokens of the image, D channels, G groups, N states,
R rank of Δ.
"""

from typing import Any, NamedTuple


class Inputs(NamedTuple):
    """The tensors that every program reads; `None` for absent ones.

    Args:
        u: (B, K, P, D).
        delta: (B, K, P, D), or (B, K, P, R) with `weight`.
        weight: (K, D, R).
        bias: (K, D).
        A: (K, D, N).
        B: (B, K, G, P, N).
        C: (B, K, G, P, N).
        D: (K, D).
        order: (K, T).
        lengths: Steps of each direction (K), where there is an order.
        steps: T.
        directions: K.
        groups: G.
        width: Channels per group.
        segment: Chunks per segment.
    """

    u: Any
    delta: Any
    weight: Any
    bias: Any
    A: Any
    B: Any
    C: Any
    D: Any
    order: Any
    lengths: Any
    steps: int
    directions: int
    groups: int
    width: int
    segment: int


class Targets(NamedTuple):
    """The tensors that the backward pass writes; `None` for gradients of absent ones.

    Args:
        u: (B, K, P, D).
        delta: (B, K, P, D), the gradient of Δ before its bias and softplus.
        A: (B, K, S, D, N), partial sums per image and segment.
        B: (B, K, G, P, N, parts), partial sums per part of the group's channels.
        C: As `B`.
        D: (B, K, S, D), as `A`.
        bias: (B, K, S, D), as `A`.
        initial: (B, K, 1, D, N).
    """

    u: Any
    delta: Any
    A: Any
    B: Any
    C: Any
    D: Any
    bias: Any
    initial: Any


class Config(NamedTuple):
    """The configuration that a program is compiled for.

    Args:
        rows: Of a block of channels.
        lanes: Of a block of channels.
        walk: Blocks of channels in a part, which one program of `gradients` takes one after the other.
        states: N.
        states_tile: N padded to a power of two.
        rank: R.
        rank_tile: R padded to a power of two.
        chunk: Steps per chunk.
        softplus: Whether Δ passes through softplus.
        padded: Whether blocks or states have padding.
    """

    rows: int
    lanes: int
    walk: int
    states: int
    states_tile: int
    rank: int
    rank_tile: int
    chunk: int
    softplus: bool
    padded: bool
