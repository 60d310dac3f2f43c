"""The selective scan on GPUs: launches the Triton programs of `students.scan.triton_programs`. Imports Triton on use.

Axes: B batch, K directions, S segments, T steps, P tokens of the image, D channels, G groups, N states, R rank of Δ.
"""

import os
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from students.scan.problem import Gradients, Result, Scan, Traits


class Pass(NamedTuple):
    """How the work of a pass is cut into programs of one warp.

    Args:
        tile: Most entries of a tile; each of the 32 threads has its share in registers, several times over.
        rows: Most rows of a block of channels.
        lanes: Most lanes of a block of channels.
        programs: Programs per multiprocessor: with fewer, sequences are cut into segments.
    """

    tile: int
    rows: int
    lanes: int
    programs: int


FORWARD = Pass(tile=1024, rows=1, lanes=32, programs=32)
BACKWARD = Pass(tile=512, rows=8, lanes=8, programs=16)

NOTE = "Triton kernels, compiled on first use; gradients repeat bit by bit"

# Steps between kept states. The backward pass has scratch for the states of as many steps for every program that runs.
CHUNK = 32
# Segments take the exponentials twice: fewer of them gain nothing.
FEWEST_SEGMENTS = 4
_OLDEST = (3, 7)  # 3.5 does not compile the device code, whose functions take and return named tuples


def obstacle(traits: Traits) -> str:
    """Why Triton cannot run such a scan here; empty when it can. Never raises."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if traits.device != "cuda" and not interpreted:
        return f"runs on CUDA, not on {traits.device}"
    refused = {
        "float64": traits.double,
        "a complex A": traits.complex,
        "B or C constant in time": traits.constant,
    }
    if found := [name for name, present in refused.items() if present]:
        return f"does not support {' or '.join(found)}"
    return _missing() or ("" if interpreted else _unfit())


@cache
def _missing() -> str:
    try:
        version = import_module("triton").__version__
        old = tuple(int(part) for part in version.split(".")[:2]) < _OLDEST
    except Exception as error:  # a broken installation raises anything
        return f"Triton cannot be imported: {type(error).__name__}: {error}"
    return f"needs Triton {'.'.join(map(str, _OLDEST))} or later, found {version}" if old else ""


@cache
def _unfit() -> str:
    if not torch.cuda.is_available():
        return "PyTorch finds no CUDA device"
    if torch.version.hip is None and torch.cuda.get_device_capability() < (8, 0):
        return "Triton needs compute capability 8.0 or later"
    return ""


def starts_shape(scan: Scan) -> tuple[int, ...]:
    """(B, K, chunks, N, D)."""
    return (scan.batch, scan.directions, -(-scan.steps // CHUNK), scan.states, scan.channels)


def forward(scan: Scan, training: bool) -> Result:
    """Runs a scan; in training it keeps the states before every chunk."""
    launch = _Launch(scan, FORWARD)
    last_state = scan.u.new_empty(scan.batch, *scan.A.shape, dtype=torch.float32)
    starts = scan.u.new_empty(starts_shape(scan) if training else 0, dtype=torch.float32)
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
        _strided(entering),
        _strided(scan.z.unsqueeze(1) if gated and scan.z is not None else None),
        _strided(out),
        _strided(ungated),
        _strided(last_state.unsqueeze(2)),
        _strided(starts.transpose(3, 4) if training else None),
        scan.scale,
    )
    if direct:
        y = out.squeeze(1)
        kept = scan.u.new_empty(0, dtype=torch.float32) if ungated is None else ungated.squeeze(1)
        return Result(y, last_state, kept, starts)
    y = out.sum(1)
    if scan.z is None:
        return Result(y.to(scan.u.dtype), last_state, y.new_empty(0), starts)
    gated_y = (y * F.silu(scan.z.float())).to(scan.u.dtype)
    return Result(gated_y, last_state, y if training else y.new_empty(0), starts)


def backward(grad_out: Tensor, grad_last: Tensor | None, scan: Scan, ungated: Tensor, starts: Tensor) -> Gradients:
    """The gradients of `forward`. Those of Δ's factors are matrix products with the gradient of Δ before bias."""
    launch = _Launch(scan, BACKWARD)
    grad_y, grad_z = grad_out.float() * scan.scale, None
    if scan.z is not None:
        z = scan.z.float()
        gate = torch.sigmoid(z)
        grad_z = (grad_out.float() * ungated * gate * (1 + z * (1 - gate))).to(scan.z.dtype)
        grad_y = grad_y * (z * gate)
    each_grad_y = _strided(grad_y.unsqueeze(1).expand(-1, scan.directions, -1, -1))
    entering = None if grad_last is None else grad_last.unsqueeze(2)
    if launch.segments > 1:
        entering = launch.enter("local_gradients", (each_grad_y,), entering, backwards=True)

    # What several programs contribute to: partial sums, over the first axis or over images and segments.
    partial = (launch.blocks, scan.batch, scan.directions, scan.groups, scan.tokens, scan.states)
    new = torch.empty if scan.order is None else torch.zeros  # an order may leave tokens out
    grad_B, grad_C = (new(partial, device=scan.u.device) for _ in range(2))
    grad_A = launch.per_segment(scan.states)
    grad_D, grad_bias = (None if x is None else launch.per_segment() for x in (scan.D, scan.delta_bias))
    shared = scan.u.shape[1] < scan.directions
    grad_u = _per_token(scan, torch.float32 if shared else scan.u.dtype)
    grad_delta = _per_token(scan, scan.delta.dtype if scan.delta_weight is None else torch.float32)
    initial = scan.initial_state
    grad_initial = None if initial is None else torch.empty_like(initial, memory_format=torch.contiguous_format)
    arguments = (
        _strided(starts.transpose(3, 4)),
        _strided(entering),
        each_grad_y,
        _strided(grad_u),
        _strided(grad_delta),
        _strided(grad_A),
        _strided(grad_B.movedim(0, -1)),
        _strided(grad_C.movedim(0, -1)),
        _strided(grad_D),
        _strided(grad_bias),
        _strided(None if grad_initial is None else grad_initial.unsqueeze(2)),
    )
    launch.run_in_turns("gradients", *arguments)

    grad_weight = None
    if scan.delta_weight is not None:
        weight, factor = scan.delta_weight.float(), scan.delta.float()
        grad_weight = (grad_delta.mT @ factor).sum(0).to(scan.delta_weight.dtype)
        grad_delta = (grad_delta @ weight).to(scan.delta.dtype)
    return Gradients(
        grad_u.sum(1, keepdim=True).to(scan.u.dtype) if shared else grad_u,
        grad_delta,
        grad_weight,
        grad_A.sum((0, 2)).to(scan.A.dtype),
        grad_B.sum(0).to(scan.B.dtype),
        grad_C.sum(0).to(scan.C.dtype),
        _total(grad_D, scan.D),
        grad_z,
        _total(grad_bias, scan.delta_bias),
        grad_initial,
    )


class _Launch:
    """What the programs of one pass over a scan have in common: device code, inputs, configuration and grid."""

    def __init__(self, scan: Scan, cut: Pass) -> None:
        self.scan = scan
        tiles, self.code = (import_module(f"students.scan.triton_{x}") for x in ("tiles", "programs"))
        width, states = scan.channels // scan.groups, _power_of_two(scan.states)
        rank = 0 if scan.delta_weight is None else scan.delta_weight.shape[2]
        lanes = max(1, min(cut.lanes, cut.tile // states))
        rows = max(1, min(cut.rows, cut.tile // (states * lanes), _power_of_two(-(-width // lanes))))
        self.blocks = -(-width // (rows * lanes))
        self.programs = scan.batch * scan.directions * scan.groups * self.blocks
        self.capacity = cut.programs * _multiprocessors(scan.u.device)

        chunks = -(-scan.steps // CHUNK)
        segments = min(chunks, self.capacity // max(1, self.programs))
        segment = chunks if segments < FEWEST_SEGMENTS else -(-chunks // segments)
        self.segments = max(1, -(-chunks // max(1, segment)))

        self.scratch = rows * states * lanes * CHUNK
        self.config = tiles.Config(
            rows=rows,
            lanes=lanes,
            states=scan.states,
            states_tile=states,
            rank=rank,
            rank_tile=_power_of_two(rank),
            chunk=CHUNK,
            softplus=scan.delta_softplus,
            padded=states != scan.states or width % (rows * lanes) != 0,
        )
        self.inputs = tiles.Inputs(
            u=_strided(scan.u.expand(-1, scan.directions, -1, -1)),
            delta=_strided(scan.delta),
            weight=_strided(scan.delta_weight),
            bias=_strided(scan.delta_bias),
            A=_strided(scan.A),
            B=_strided(scan.B),
            C=_strided(scan.C),
            D=_strided(scan.D),
            order=_strided(scan.order),
            lengths=None if scan.order is None else (scan.order >= 0).sum(1, dtype=torch.int32),
            steps=scan.steps,
            directions=scan.directions,
            groups=scan.groups,
            width=width,
            segment=segment,
        )

    def run(self, kernel: str, *arguments: Any, grid: tuple[int, int] | None = None, **constants: Any) -> None:
        """Runs a program of the device code on `grid`, by default on all images, blocks and segments."""
        grid = grid or (self.programs, self.segments)
        if not grid[0]:
            return
        with torch.cuda.device_of(self.scan.u):
            program = getattr(self.code, kernel)[grid]
            program(self.inputs, *arguments, F=self.config, **constants, num_warps=1, enable_fp_fusion=True)

    def run_in_turns(self, kernel: str, *arguments: Any) -> None:
        """Runs a program that needs scratch, as many at a time as fill the device."""
        size = min(self.programs, self.capacity) * self.segments * self.scratch
        scratch = self.scan.u.new_empty(size, dtype=torch.float32)
        for first in range(0, self.programs, self.capacity):
            grid = (min(self.capacity, self.programs - first), self.segments)
            self.run(kernel, first, *arguments, scratch, grid=grid)

    def enter(self, kernel: str, arguments: tuple[Any, ...], initial: Tensor | None, backwards: bool) -> Tensor:
        """What enters every segment, (B, K, S, D, N), given what enters the outermost, (B, K, 1, D, N) or zero.

        Args:
            kernel: The program that walks the segments on their own.
            arguments: What it needs beyond the inputs.
            initial: What enters the outermost segment.
            backwards: Whether that is the last one.
        """
        ends, entering = self.per_segment(self.scan.states), self.per_segment(self.scan.states)
        sums = self.per_segment()
        self.run(kernel, *arguments, _strided(ends), _strided(sums))
        joined = (_strided(ends), _strided(sums), _strided(initial), _strided(entering), self.segments)
        self.run("join", *joined, grid=(self.programs, 1), BACKWARDS=backwards)
        return entering

    def per_segment(self, *states: int) -> Tensor:
        """An uninitialised float32 tensor (B, K, S, D), or (B, K, S, D, N) with channels next to each other."""
        shape = (self.scan.batch, self.scan.directions, self.segments, *states, self.scan.channels)
        x = self.scan.u.new_empty(shape, dtype=torch.float32)
        return x.transpose(3, 4) if states else x


def _multiprocessors(device: torch.device) -> int:
    """Of the GPU; the interpreter counts as one."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _power_of_two(x: int) -> int:
    """The next one that is not below x."""
    return 1 << max(0, x - 1).bit_length()


def _strided(x: Tensor | None) -> tuple[Tensor | int, ...] | None:
    """A tensor argument of the device code."""
    return None if x is None else (x, *x.stride())


def _per_token(scan: Scan, dtype: torch.dtype) -> Tensor:
    """A tensor (B, K, P, D) for what every direction writes at the tokens that it visits, zero at others."""
    shape = (scan.batch, scan.directions, scan.tokens, scan.channels)
    return scan.u.new_empty(shape, dtype=dtype) if scan.order is None else scan.u.new_zeros(shape, dtype=dtype)


def _total(partial: Tensor | None, parameter: Tensor | None) -> Tensor | None:
    """The gradient of a parameter from its partial sums per image and segment."""
    return None if partial is None or parameter is None else partial.sum((0, 2)).to(parameter.dtype)
