"""The selective scan against its peers, side by side in one run; what differs from float64 prints no time.

    python benchmarks/scan.py                   # everything, about five minutes on two cores
    python benchmarks/scan.py --peers --memory  # parts; also --threads, --scaling, --images
    python benchmarks/scan.py --device cuda     # on a GPU: its backends, in bfloat16

All candidates of a table take turns, so that a busy machine slows all; medians are printed. A state update is one of
the B D L N steps of the recurrence. What must be compiled, and backward passes quadratic in L, run at the smallest size
only.
"""

import argparse
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from scan_peers import (
    ASSOCIATIVE,
    CHUNKED,
    MAMBAPY,
    SEQUENTIAL,
    TOLERANCE,
    Peer,
    available_peers,
    best_of_ours,
    error,
    fused,
    fused_low_rank,
    gradients,
    image_problems,
    make_problem,
    outputs,
    place,
    selective_scan_softplus,
    two_calls,
    two_calls_low_rank,
)
from torch import Tensor

PASSES = {"forward": outputs, "forward + backward": gradients}
FORWARD, BOTH = PASSES
STATES = 16
SIZES = {
    "cpu": [(1, 1024, 192), (1, 1024, 512), (1, 4096, 192), (1, 4096, 512)],
    "cuda": [(8, 1024, 768), (8, 4096, 768)],
}
DTYPES = {"cpu": torch.float32, "cuda": torch.bfloat16}
GOALS = {
    "cpu": [
        (SEQUENTIAL, FORWARD, 80),
        (SEQUENTIAL, BOTH, 300),
        (MAMBAPY, FORWARD, 80),
        (MAMBAPY, BOTH, 50),
        (ASSOCIATIVE, FORWARD, 25),
        (CHUNKED, FORWARD, 10),
        (CHUNKED, BOTH, 10),
    ],
    "cuda": [("mamba-ssm", FORWARD, 1), ("mamba-ssm", BOTH, 1)],
}
LENGTHS = [2**power for power in range(10, 17)]
GRID, IMAGE_CHANNELS, RANK = 64, 512, 16
MEMORY_SIZE = (1, 1024, 192)
MOST_TURNS, TURN = 15, 0.005  # seconds of calls per turn
SECONDS = 0.4  # of calls per candidate: slow ones take fewer turns, but at least one
RESET = Path("/proc/self/clear_refs")

console = Console(width=150)


@dataclass(frozen=True)
class Bar:
    """A ratio that a part measured, and the goal for it."""

    what: str
    measured: float
    goal: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"peers": peers, "threads": threads, "memory": memory, "scaling": scaling, "images": images}
    for name in parts:
        parser.add_argument(f"--{name}", action="store_true", help="only this part, and others named so")
    parser.add_argument("--device", choices=list(SIZES), default="cpu")
    parser.add_argument("--small", action="store_true", help="the smallest sizes only: to see whether it runs")
    parser.add_argument("--memory-of", metavar="PEER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory_of:
        print(peak_growth(arguments.memory_of))
        return
    if arguments.small:
        del SIZES["cpu"][1:], LENGTHS[3:]

    machine = f"{processor()}, {os.cpu_count()} cores"
    if arguments.device == "cuda":
        machine = torch.cuda.get_device_name()
        parts = {"peers": peers}
    console.print(f"torch {torch.__version__}, {machine}; one thread unless said otherwise\n")
    bars = []
    for name in [name for name in parts if getattr(arguments, name)] or parts:
        start = time.perf_counter()
        bars += parts[name](arguments.device)
        console.print(f"[dim]{name}: {time.perf_counter() - start:.0f} s[/dim]\n")
    if bars:
        table = make_table("Goals: the smallest ratio measured", "times", "measured", "goal", "")
        for bar in bars:
            verdict = "met" if bar.measured >= bar.goal else "missed"
            table.add_row(bar.what, number(bar.measured), f"{bar.goal:g}", verdict)
        console.print(table)


def peers(device: str) -> list[Bar]:
    """Every peer at every size, on one thread."""
    found, missing = available_peers(device)
    for name, reason in missing.items():
        console.print(f"{name}: not measured: {reason}")
    ratios: dict[tuple[str, str], list[float]] = {}
    for what, call in PASSES.items():
        title = f"{what}: ns per state update (times the best of ours), N={STATES}"
        table = make_table(title, "peer", *map(describe, SIZES[device]))
        cells: dict[str, list[str]] = {name: [] for name in found}
        for size in SIZES[device]:
            smallest = size == SIZES[device][0]
            running = {name: peer for name, peer in found.items() if smallest or not peer.compiled}
            if what == BOTH and not smallest:
                running = {name: peer for name, peer in running.items() if not peer.quadratic}
            times, failed = check_and_measure(running, size, device, call)
            best = min(seconds for name, seconds in times.items() if found[name].ours)
            for name, row in cells.items():
                if name in times:
                    ratios.setdefault((name, what), []).append(times[name] / best)
                    row.append(f"{number(times[name] / math.prod(size) / STATES * 1e9)} ({times[name] / best:.1f} x)")
                else:
                    row.append(failed.get(name, "-"))
        for name, row in cells.items():
            table.add_row(name, *row)
        console.print(table)
    return [
        Bar(f"{name}, {what}", min(ratios[name, what]), goal)
        for name, what, goal in GOALS[device]
        if (name, what) in ratios
    ]


def threads(device: str) -> list[Bar]:
    """One thread against two, at the largest size."""
    size = SIZES[device][-1]
    found, _ = available_peers(device)
    best = best_of_ours(found)
    table = make_table(f"Times as fast on two threads as on one, {describe(size)}", "peer", *PASSES)
    rows: dict[str, list[float]] = {name: [] for name in (MAMBAPY, CHUNKED, best) if name in found}
    for call in PASSES.values():
        candidates = {(name, count): bind(call, found[name], size, device) for name in rows for count in (1, 2)}
        times = measure(candidates, threads={key: key[1] for key in candidates})
        for name, row in rows.items():
            row.append(times[name, 1] / times[name, 2])
    for name, row in rows.items():
        table.add_row(name, *(f"{ratio:.2f}" for ratio in row))
    console.print(table)
    return [
        Bar(f"1 to 2 threads, {what}", ratio, goal)
        for what, ratio, goal in zip(PASSES, rows[best], (1.7, 1.6), strict=True)
    ]


def memory(device: str) -> list[Bar]:
    """Growth of the resident memory over a forward and backward pass, each peer in a process of its own."""
    if not RESET.exists():
        console.print("memory: not measured, this system has no /proc/self/clear_refs")
        return []
    found, _ = available_peers(device)
    best = best_of_ours(found)
    table = make_table(f"Peak memory of {BOTH}, {describe(MEMORY_SIZE)}", "peer", "MiB", "times the best of ours")
    grown = {}
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # freed tensors leave the process at once
    for name in (name for name, peer in found.items() if not peer.compiled):
        command = [sys.executable, __file__, "--memory-of", name]
        result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        grown[name] = float(result.stdout)
    for name, size in grown.items():
        table.add_row(name, f"{size:.0f}", f"{size / grown[best]:.1f}")
    console.print(table)
    return [Bar(f"{MAMBAPY}, peak memory", grown[MAMBAPY] / grown[best], 10)] if MAMBAPY in grown else []


def peak_growth(name: str) -> float:
    """MiB that this process grows by at most while a peer runs once, after a small run that loads what it needs."""
    peer = available_peers("cpu")[0][name]
    bind(gradients, peer, (1, 32, 16), "cpu")()
    run = bind(gradients, peer, MEMORY_SIZE, "cpu")
    RESET.write_text("5")  # sets the peak back to the present size
    before = peak_memory()
    run()
    return (peak_memory() - before) / 1024


def peak_memory() -> int:
    """Peak resident memory of this process in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def scaling(device: str) -> list[Bar]:
    """Time per token against the number of tokens."""
    channels = SIZES[device][0][2]
    found, _ = available_peers(device)
    names = list(dict.fromkeys([CHUNKED, best_of_ours(found)]))
    columns = [f"{length}" for length in LENGTHS]
    table = make_table(f"ns per token against tokens, B=1 D={channels}", "scan", *columns, "largest / smallest")
    bars = []
    for what, call in PASSES.items():
        candidates = {
            (name, length): bind(call, found[name], (1, length, channels), device)
            for name in names
            for length in LENGTHS
        }
        times = measure(candidates)
        for name in names:
            row = [times[name, length] / length * 1e9 for length in LENGTHS]
            table.add_row(f"{name}, {what}", *map(number, row), f"{max(row) / min(row):.2f}")
        bars.append(Bar(f"time per token, smallest / largest, {what}", min(row) / max(row), 0.87))  # of the best
    console.print(table)
    return bars


def images(device: str) -> list[Bar]:
    """A gated bidirectional scan of an image: in one call, and as two 1-D calls on flipped copies."""
    full, low_rank = image_problems(GRID, IMAGE_CHANNELS, STATES, RANK)
    table = make_table(f"Bidirectional scan of {GRID} x {GRID} tokens, D={IMAGE_CHANNELS}: ms", "scan", *PASSES)
    bars = []
    variants = {"": (full, fused, two_calls), ", low-rank Δ": (low_rank, fused_low_rank, two_calls_low_rank)}
    for suffix, (problem, one, two) in variants.items():
        inputs = {name: tensor.to(device, torch.float32) for name, tensor in problem.items()}
        rows: dict[str, list[str]] = {"one 2-D call" + suffix: [], "two 1-D calls" + suffix: []}
        for what, call in PASSES.items():
            expected = call(partial(one, backend="reference"), problem)
            candidates = {name: partial(call, run, inputs) for name, run in zip(rows, (one, two), strict=True)}
            for name, run in candidates.items():
                if (wrong := error(run(), expected)) > TOLERANCE[torch.float32]:
                    raise SystemExit(f"{name}, {what}: wrong by {wrong:.1g}")
            times = measure(candidates)
            for name, row in rows.items():
                row.append(f"{times[name] * 1e3:.3g}")
            fast, slow = times.values()
            bars.append(Bar(f"two 1-D calls{suffix}, {what}", slow / fast, 1.3))
        for name, row in rows.items():
            table.add_row(name, *row)
    console.print(table)
    return bars


def check_and_measure(
    peers: dict[str, Peer], size: tuple[int, int, int], device: str, call: Callable[..., tuple[Tensor, ...]]
) -> tuple[dict[str, float], dict[str, str]]:
    """Median seconds of the peers that agree with the float64 reference, and what the others did."""
    problem = make_problem(*size, STATES, DTYPES[device])
    reference = partial(selective_scan_softplus, backend="reference")
    expected = call(reference, {name: tensor.to(device) for name, tensor in problem.items()})
    candidates, first, failed = {}, {}, {}
    for name, peer in peers.items():
        run = bind(call, peer, size, device)
        start = time.perf_counter()
        try:
            found = run()
        except Exception as reason:  # whatever a peer raises, the others are measured
            console.print(f"{name}: {type(reason).__name__}: {reason}")
            failed[name] = "failed"
            continue
        synchronize()
        first[name] = time.perf_counter() - start
        if peer.compiled:
            console.print(f"{name}: the first call took {first.pop(name):.0f} s")
        if (worst := error(found, expected)) > TOLERANCE[DTYPES[device]]:
            failed[name] = f"wrong by {worst:.1g}"
        else:
            candidates[name] = run
    return measure(candidates, first), failed


def measure(
    candidates: dict[Any, Callable[[], object]],
    first: dict[Any, float] | None = None,
    threads: dict[Any, int] | None = None,
) -> dict[Any, float]:
    """Median seconds of each candidate.

    Args:
        candidates: What to call.
        first: Seconds of candidates that have run before; the others run once untimed.
        threads: Threads of a candidate, 1 by default.
    """
    first, threads = first or {}, threads or {}
    seconds: dict[Any, list[float]] = {}
    turns = {}
    for name, run in candidates.items():
        once = first[name] if name in first else timed(run, 0)[0]
        turns[name], seconds[name] = math.ceil(SECONDS / max(once, SECONDS / MOST_TURNS)), []
    for turn in range(MOST_TURNS):
        for name, run in candidates.items():
            if turn < turns[name]:
                torch.set_num_threads(threads.get(name, 1))
                seconds[name] += timed(run, TURN)
    torch.set_num_threads(1)
    return {name: statistics.median(times) for name, times in seconds.items()}


def timed(run: Callable[[], object], turn: float) -> list[float]:
    """Seconds of each call, at least one, until `turn` seconds have passed."""
    seconds = []
    while not seconds or sum(seconds) < turn:
        synchronize()
        start = time.perf_counter()
        run()
        synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds


def synchronize() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def bind(
    call: Callable[..., tuple[Tensor, ...]], peer: Peer, size: tuple[int, int, int], device: str
) -> Callable[[], tuple[Tensor, ...]]:
    """One call of a peer on inputs of its own."""
    problem = make_problem(*size, STATES, DTYPES[device])
    return partial(call, peer.run, place(problem, peer, device, DTYPES[device]))


def make_table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    return table


def number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def describe(size: tuple[int, int, int]) -> str:
    return "B={} L={} D={}".format(*size)


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


if __name__ == "__main__":
    main()
