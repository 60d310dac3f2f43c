"""Time per token of a scan against the number of tokens: of whole calls, and of the compiled kernels alone."""

import ctypes
import time
from collections.abc import Callable
from dataclasses import replace

from measuring import Bar, Candidate, console, make_table, measure, number
from scan_checks import LONGEST_REFERENCE, PASSES, STATES, checked, error, truth
from scan_peers import CHUNKED, Peer

from distill.training.allocator import keep_freed_memory
from students.scan.cpu import CpuBackend

GOAL = 0.87  # constant within 15 %


def time_per_token(peers: dict[str, Peer], best: str, device: str, channels: int, lengths: list[int]) -> list[Bar]:
    """Prints the table. On a CPU the process keeps its freed memory from here on, as a run of `distill` does.

    Args:
        peers: By name.
        best: The one that the goals are about.
        device: "cpu" or "cuda".
        channels: D.
        lengths: Numbers of tokens.
    """
    if device == "cpu" and keep_freed_memory():
        console.print("Freed memory is kept, as in a run of `distill`.")
    sizes = [(1, length, channels) for length in lengths]
    exact = error(truth(sizes[0], device, STATES, "chunked"), truth(sizes[0], device, STATES, "reference"))
    if exact > 1e-9:
        raise SystemExit(f"{CHUNKED} in float64 is wrong by {exact:.1g}")
    if lengths[-1] > LONGEST_REFERENCE:
        console.print(
            f"Checked against the reference up to {LONGEST_REFERENCE} tokens, and beyond against {CHUNKED} in float64, "
            f"which at {lengths[0]} tokens is within {exact:.0e} of it."
        )
    checks = {
        (name, what, size): checked(name, peer, size, device, what)
        for size in sizes
        for what in PASSES
        for name, peer in peers.items()
    }
    names, judged = list(peers), [best]
    if best.startswith("cpu-"):
        alone, clock = f"the kernels of {best} alone", kernel_clock()
        names.append(alone)
        judged.append(alone)
        checks |= {
            (alone, what, size): replace(check, clock=clock) if isinstance(check, Candidate) else check
            for (name, what, size), check in checks.items()
            if name == best
        }
    columns = [f"{length}" for length in lengths]
    table = make_table(f"ns per token against tokens, B=1 D={channels}", "scan", *columns, "largest / smallest")
    bars = []
    for what in PASSES:
        times = measure(
            {key: check for key, check in checks.items() if key[1] == what and isinstance(check, Candidate)}
        )
        for name in names:
            keys = [(name, what, size) for size in sizes]
            row = [times[key] / key[2][1] * 1e9 if key in times else checks[key] for key in keys]
            cells = [number(cell) if isinstance(cell, float) else cell for cell in row]
            spread = max(row) / min(row) if all(key in times for key in keys) else None
            table.add_row(f"{name}, {what}", *cells, f"{spread:.2f}" if spread else "-")
            if name in judged and device == "cpu":
                bars.append(Bar(f"time per token of {name}, smallest / largest, {what}", spread and 1 / spread, GOAL))
    console.print(table)
    return bars


def kernel_clock() -> Callable[[], float]:
    """A clock that runs while a compiled kernel does, without the dispatch and the Python around it."""
    call, spent = CpuBackend._call, 0.0

    def clocked(backend: CpuBackend, name: str, *structs: ctypes.Structure) -> None:
        nonlocal spent
        start = time.perf_counter()
        call(backend, name, *structs)
        spent += time.perf_counter() - start

    CpuBackend._call = clocked  # type: ignore[method-assign]
    return lambda: spent
