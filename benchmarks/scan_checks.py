"""The problems of the scan's benchmarks, and the check that every peer passes at every size before it is measured.

Axes: B batch, D channels, N states, L tokens.
"""

import math
import time
from collections.abc import Callable
from functools import lru_cache, partial

import torch
from measuring import Candidate, console, synchronize
from scan_peers import Peer, selective_scan_softplus
from torch import Tensor

STATES = 16
DTYPES = {"cpu": torch.float32, "cuda": torch.bfloat16}
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}  # largest error, as a share of a tensor's largest value
STEPS = {"small Δ": -4.0, "Δ at initialisation": 0.0, "large Δ": 6.0}  # added to the bias of Δ
LONGEST_REFERENCE = 4096  # tokens: beyond, the reference is chunked PyTorch in float64

Size = tuple[int, int, int]  # B, L, D


def make_problem(batch: int, length: int, channels: int, states: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Inputs with the decays of a Mamba at initialisation: A = -1 .. -N, Δ about 0.001 to 0.1.

    Values that `dtype` holds, as float64.
    """
    random = torch.Generator().manual_seed(length + channels)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype).double()

    target = 10 ** (-3 + 2 * torch.rand(channels, generator=random, dtype=torch.float64))
    return {
        "u": normal(batch, channels, length),
        "delta": 0.5 * normal(batch, channels, length),
        "A": -torch.arange(1.0, states + 1, dtype=torch.float64).repeat(channels, 1),
        "B": normal(batch, states, length),
        "C": normal(batch, states, length),
        "D": normal(channels),
        "z": normal(batch, channels, length),
        "delta_bias": (target + torch.log(-torch.expm1(-target))).float().double(),
    }


def with_means(problem: dict[str, Tensor], steps: str) -> dict[str, Tensor]:
    """The problem with other steps, and u, B and C about 1: like trained features, they add up in the states."""
    spread = {"u": 1.0, "B": 0.3, "C": 0.3}
    changed = {name: (1 + factor * problem[name]).float().double() for name, factor in spread.items()}
    return problem | changed | {"delta_bias": (problem["delta_bias"] + STEPS[steps]).float().double()}


def place(problem: dict[str, Tensor], peer: Peer, device: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """The inputs in a peer's layout; A, D and the bias are float32."""
    placed = {}
    for name, tensor in problem.items():
        tensor = tensor.to(device, dtype if tensor.dim() == 3 else torch.float32)
        placed[name] = tensor.mT.contiguous().mT if peer.tokens_first and tensor.dim() == 3 else tensor.contiguous()
    return placed


@torch.no_grad()
def outputs(run: Callable[..., Tensor], inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """The output alone, as in inference."""
    return (run(*inputs.values()),)


def gradients(run: Callable[..., Tensor], inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """The output, and the gradients of all inputs under a loss of half the sum of its squares."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs.values()]
    out = run(*leaves)
    return out.detach(), *torch.autograd.grad(out, leaves, out.detach())


PASSES = {"forward": outputs, "forward + backward": gradients}
FORWARD, BOTH = PASSES


def error(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    """The largest error of any tensor, as a share of its largest value; infinite where something is not finite."""
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        difference = (a.detach().double() - b).abs().max() / b.abs().max()
        worst = max(worst, float(difference) if torch.isfinite(difference) else math.inf)
    return worst


def distances(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> list[float]:
    """The root mean square of the error of each tensor, as a share of that of the tensor."""
    return [float((a.double() - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True)]


@lru_cache(maxsize=4)
def truth(size: Size, device: str, states: int, backend: str) -> tuple[Tensor, ...]:
    """The output and all gradients, computed in float64."""
    problem = make_problem(*size, states, DTYPES[device])
    run = partial(selective_scan_softplus, backend=backend)
    return gradients(run, {name: tensor.to(device) for name, tensor in problem.items()})


def bind(what: str, peer: Peer, size: Size, device: str, states: int = STATES) -> Callable[[], tuple[Tensor, ...]]:
    """One call of a peer on inputs of its own."""
    problem = make_problem(*size, states, DTYPES[device])
    return partial(PASSES[what], peer.run, place(problem, peer, device, DTYPES[device]))


def wrong(found: tuple[Tensor, ...], size: Size, device: str, states: int = STATES) -> str:
    """How far a result, of either pass, is from float64; empty within the tolerance."""
    backend = "reference" if size[1] <= LONGEST_REFERENCE else "chunked"
    worst = error(found, truth(size, device, states, backend)[: len(found)])
    return f"wrong by {worst:.1g}" if worst > TOLERANCE[DTYPES[device]] else ""


def checked(
    name: str, peer: Peer, size: Size, device: str, what: str, states: int = STATES, threads: int = 1
) -> Candidate | str:
    """A peer on a problem that it has solved; where it has not, what happened."""
    run = bind(what, peer, size, device, states)
    torch.set_num_threads(threads)
    start = time.perf_counter()
    try:
        found = run()
        synchronize()
    except Exception as reason:  # whatever a peer raises, the others are measured
        console.print(f"{name}: {type(reason).__name__}: {reason}")
        return "failed"
    finally:
        torch.set_num_threads(1)
    first = time.perf_counter() - start
    if peer.compiled:
        console.print(f"{name}: the first call took {first:.0f} s")
    return wrong(found, size, device, states) or Candidate(run, None if peer.compiled else first, threads)
