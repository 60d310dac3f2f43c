"""The scans that `scan.py` measures, each under one signature: mamba-ssm's up to `delta_bias`, with softplus.

A peer gets its tensors contiguous in its own layout, and applies bias, softplus, skip and gate as its own package does.

Axes: B batch, D channels, N states, L tokens.
"""

import functools
import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import torch
from torch import Tensor
from torch.nn import functional as F

from students.scan import selective_scan, selective_scan_2d
from students.scan.backends import BACKENDS
from students.scan.problem import Traits

SEQUENTIAL, UNBOUND, CHUNKED = "sequential, as published", "reference (ours)", "chunked (ours)"
MAMBAPY, TRANSFORMERS, ASSOCIATIVE = "mambapy", "transformers", "associative_scan, compiled"
MAMBA_SSM, MAMBA_SSM_BACKEND = "mamba-ssm", "mamba-ssm, as a backend"


@dataclass(frozen=True)
class Peer:
    """One implementation.

    Args:
        run: (u, delta, A, B, C, D, z, delta_bias), shaped as for mamba-ssm, to the output (B, D, L).
        tokens_first: Whether u, delta, z, B and C lie in memory as (B, L, D) rather than (B, D, L).
        ours: Whether it is this project's.
        quadratic: Whether the time of its backward pass grows with the square of L.
        compiled: Whether the first call compiles, which takes most of a minute.
    """

    run: Callable[..., Tensor]
    tokens_first: bool = False
    ours: bool = False
    quadratic: bool = False
    compiled: bool = False


def available_peers(device: str) -> tuple[dict[str, Peer], dict[str, str]]:
    """The peers that run here, and the reasons why others do not; on a GPU mamba-ssm and the backends."""
    peers, missing = {}, {}
    if device == "cpu":
        peers[SEQUENTIAL] = Peer(sequential, quadratic=True)
        if importlib.util.find_spec("mambapy"):
            peers[MAMBAPY] = Peer(mambapy, tokens_first=True)
        else:
            missing[MAMBAPY] = "not installed"
        if importlib.util.find_spec("transformers") and int(version("transformers").split(".")[0]) >= 5:
            peers[TRANSFORMERS] = Peer(transformers_slow_path, quadratic=True)
        else:
            missing[TRANSFORMERS] = "transformers 5 or later is not installed"
        peers[ASSOCIATIVE] = Peer(lambda *inputs: compiled_associative()(*inputs), compiled=True)
    else:
        try:
            from mamba_ssm.ops.selective_scan_interface import selective_scan_cuda, selective_scan_fn
        except Exception as reason:  # extensions built for another PyTorch raise exceptions of any type
            missing[MAMBA_SSM] = f"{type(reason).__name__}: {reason}"
        else:
            if selective_scan_cuda is None:
                missing[MAMBA_SSM] = "installed without its CUDA build"
            else:
                peers[MAMBA_SSM] = Peer(functools.partial(selective_scan_fn, delta_softplus=True))
    peers[UNBOUND] = Peer(functools.partial(selective_scan_softplus, backend="reference"), tokens_first=True, ours=True)
    titles = {"chunked": CHUNKED, "mamba-ssm": MAMBA_SSM_BACKEND}
    for name, backend in BACKENDS.items():
        title, native = titles.get(name, name), name != "mamba-ssm"
        if reason := backend.obstacle(Traits(device)):
            missing[title] = reason
        else:
            run = functools.partial(selective_scan_softplus, backend=name)
            peers[title] = Peer(run, tokens_first=native, ours=native)
    return peers, missing


def best_of_ours(peers: dict[str, Peer]) -> str:
    """The backend that the project prefers."""
    return next(name for name, peer in peers.items() if peer.ours and name != UNBOUND)


def selective_scan_softplus(*inputs: Tensor, backend: str) -> Tensor:
    return selective_scan(*inputs, delta_softplus=True, backend=backend)


def sequential(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor
) -> Tensor:
    """As mamba-ssm's `selective_scan_ref` is built: decays and inputs of all states first, sliced inside the loop.

    Every slice sends a gradient of the size of the whole back, so that the backward pass is quadratic in L.
    """
    delta = F.softplus(delta + delta_bias[:, None])
    decay = torch.exp(delta[..., None] * A[:, None])  # (B, D, L, N)
    entering = (delta * u)[..., None] * B.mT[:, None]
    state = torch.zeros_like(decay[:, :, 0])
    outputs = []
    for t in range(u.shape[2]):
        state = decay[:, :, t] * state + entering[:, :, t]
        outputs.append((state * C[:, None, :, t]).sum(-1))
    return (torch.stack(outputs, 2) + D[:, None] * u) * F.silu(z)


def mambapy(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor
) -> Tensor:
    """mambapy's parallel scan, with the tensors that its `MambaBlock` forms before and after it."""
    from mambapy.pscan import pscan

    u, delta, B, C = u.mT, F.softplus(delta.mT + delta_bias), B.mT, C.mT
    decay = torch.exp(delta[..., None] * A)  # (B, L, D, N)
    states = pscan(decay, delta[..., None] * B[:, :, None] * u[..., None])
    return (((states @ C[..., None])[..., 0] + D * u) * F.silu(z.mT)).mT


def associative(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor
) -> Tensor:
    """PyTorch's higher-order operator over the pairs (decay, input), in the only mode that runs on a CPU."""
    from torch._higher_order_ops.associative_scan import associative_scan

    def combine(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return left[0] * right[0], right[0] * left[1] + right[1]

    delta = F.softplus(delta + delta_bias[:, None])
    pairs = torch.exp(delta[..., None] * A[:, None]), (delta * u)[..., None] * B.mT[:, None]
    _, states = associative_scan(combine, pairs, dim=2, combine_mode="generic")
    return ((states * C.mT[:, None]).sum(-1) + D[:, None] * u) * F.silu(z)


@functools.cache
def compiled_associative() -> Callable[..., Tensor]:
    """Compiled anew in every process, because the time of the first call is printed."""
    return torch.compile(associative, dynamic=False, options={"force_disable_caches": True})


def transformers_slow_path(*inputs: Tensor) -> Tensor:
    """The installed function that transformers' Mamba runs without mamba-ssm, below its choice of kernels."""
    from transformers.models.mamba.modeling_mamba import mamba_selective_scan

    return inspect.unwrap(mamba_selective_scan)(*inputs, delta_softplus=True)


def image_problems(side: int, channels: int, states: int, rank: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs of the bidirectional scans below, with Δ and with its low-rank factors, in the layout of images."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64).float().double()

    grid = (1, side, side)
    u = {"u": normal(*grid, 2, channels)}
    rest = {
        "A": -torch.arange(1.0, states + 1, dtype=torch.float64).repeat(2, channels, 1),
        "B": normal(*grid, 2, states),
        "C": normal(*grid, 2, states),
        "D": normal(2, channels),
        "z": normal(*grid, channels),
        "delta_bias": normal(2, channels) - 4,
    }
    full = {"delta": 0.5 * normal(*grid, 2, channels)}
    low_rank = {"factor": normal(*grid, 2, rank), "weight": 0.1 * normal(2, channels, rank)}
    return u | full | rest, u | low_rank | rest


def fused(u: Tensor, delta: Tensor, *rest: Tensor, backend: str = "auto") -> Tensor:
    return selective_scan_2d(u, delta, *rest, delta_softplus=True, order="bidirectional", backend=backend)


def fused_low_rank(u: Tensor, factor: Tensor, weight: Tensor, *rest: Tensor, backend: str = "auto") -> Tensor:
    return selective_scan_2d(
        u, factor, *rest, delta_softplus=True, order="bidirectional", delta_weight=weight, backend=backend
    )


def two_calls(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor
) -> Tensor:
    ahead, back = [], []
    for x in (u, delta, B, C):
        tokens = x.flatten(1, 2)
        ahead.append(tokens[:, :, 0].mT)
        back.append(tokens[:, :, 1].flip(1).mT)
    y = 0
    for k, (x, step, weights, readout) in enumerate((ahead, back)):
        out = selective_scan(x, step, A[k], weights, readout, D[k], None, delta_bias[k], True).mT
        y = y + (out.flip(1) if k else out)
    return y.view_as(z) * F.silu(z)


def two_calls_low_rank(u: Tensor, factor: Tensor, weight: Tensor, *rest: Tensor) -> Tensor:
    delta = torch.stack([F.linear(factor[..., k, :], weight[k]) for k in range(2)], dim=3)
    return two_calls(u, delta, *rest)
