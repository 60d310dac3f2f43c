"""Cuts a scan into Triton programs of one warp and launches them.

Axes: B batch, K directions, S segments, D channels, N states.
"""

from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor

from students.scan.problem import Scan
from students.scan.triton.arguments import Config, Inputs


class Pass(NamedTuple):
    """How the work of a pass is cut. Sizes are chosen by the registers they take, not by measured times.

    Args:
        tile: Most entries of a tile of states; each of the 32 threads has its share in registers, several times over.
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

# Most entries of the tile of Δ's projection, which threads hold once.
PROJECTION = 1024
# Steps between kept states. The backward pass has scratch for the states of as many steps for every program that runs.
CHUNK = 32
# Segments take the exponentials twice: fewer of them gain nothing.
FEWEST_SEGMENTS = 4
# The partial sums of dB and dC, one for every part of the channels: of a tensor (B, K, T, D, N) they have at most 1/32.
PART_CHANNELS = 32
MOST_PARTS = 16


def chunks(steps: int) -> int:
    """The number of chunks of a direction with so many steps, which may be symbolic."""
    return -(-steps // CHUNK)


def starts_shape(scan: Scan) -> tuple[int, ...]:
    """(B, K, chunks, N, D), the states before every chunk. Sizes may be symbolic."""
    return (scan.batch, scan.directions, chunks(scan.steps), scan.states, scan.channels)


class Launch:
    """The shared state of the programs of one pass: device code, inputs, configuration and grid."""

    def __init__(self, scan: Scan, cut: Pass) -> None:
        self.scan = scan
        self.code = import_module("students.scan.triton.programs")
        width, states = scan.channels // scan.groups, _power_of_two(scan.states)
        rank = 0 if scan.delta_weight is None else scan.delta_weight.shape[2]
        channels = max(1, min(cut.tile // states, PROJECTION // _power_of_two(rank)))
        lanes = min(cut.lanes, channels)
        rows = min(cut.rows, channels // lanes, _power_of_two(-(-width // lanes)))
        blocks = -(-width // (rows * lanes))
        walk = -(-blocks // min(MOST_PARTS, -(-width // PART_CHANNELS)))
        self.parts = -(-blocks // walk)
        self.lines = scan.batch * scan.directions * scan.groups
        self.programs = self.lines * blocks
        self.capacity = cut.programs * _multiprocessors(scan.u.device)

        count = chunks(scan.steps)
        # Of the backward pass, `gradients` is the longest program, and has one for every part.
        abreast = self.lines * self.parts if cut is BACKWARD else self.programs
        segments = min(count, self.capacity // max(1, abreast))
        segment = count if segments < FEWEST_SEGMENTS else -(-count // segments)
        self.segments = max(1, -(-count // max(1, segment)))

        self.scratch = rows * states * lanes * CHUNK
        self.config = Config(
            rows=rows,
            lanes=lanes,
            walk=walk,
            states=scan.states,
            states_tile=states,
            rank=rank,
            rank_tile=_power_of_two(rank),
            chunk=CHUNK,
            softplus=scan.delta_softplus,
            padded=states != scan.states or width % (rows * lanes) != 0,
        )
        self.inputs = Inputs(
            u=strided(scan.u.expand(-1, scan.directions, -1, -1)),
            delta=strided(scan.delta),
            weight=strided(scan.delta_weight),
            bias=strided(scan.delta_bias),
            A=strided(scan.A),
            B=strided(scan.B),
            C=strided(scan.C),
            D=strided(scan.D),
            order=strided(scan.order),
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
        """Runs a program on all images, parts and segments, as many at a time as fill the device: it needs scratch."""
        programs = self.lines * self.parts
        size = min(programs, self.capacity) * self.segments * self.scratch
        scratch = self.scan.u.new_empty(size, dtype=torch.float32)
        for first in range(0, programs, self.capacity):
            grid = (min(self.capacity, programs - first), self.segments)
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
        self.run(kernel, *arguments, strided(ends), strided(sums))
        joined = (strided(ends), strided(sums), strided(initial), strided(entering), self.segments)
        self.run("join", *joined, grid=(self.programs, 1), BACKWARDS=backwards)
        return entering

    def per_segment(self, *states: int) -> Tensor:
        """An uninitialised float32 tensor (B, K, S, D), or (B, K, S, D, N) with channels next to each other."""
        shape = (self.scan.batch, self.scan.directions, self.segments, *states, self.scan.channels)
        x = self.scan.u.new_empty(shape, dtype=torch.float32)
        return x.transpose(3, 4) if states else x


def strided(x: Tensor | None) -> tuple[Tensor | int, ...] | None:
    """A tensor argument of the device code."""
    return None if x is None else (x, *x.stride())


def _multiprocessors(device: torch.device) -> int:
    """Of the GPU; the interpreter counts as one."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _power_of_two(x: int) -> int:
    """The next one that is not below x."""
    return 1 << max(0, x - 1).bit_length()
