"""The best backend against its bounds: on a CPU arithmetic and memory, on a GPU exponentials.

Axes: B batch, D channels, N states, L tokens.
"""

import math

import torch
from measuring import Bar, Candidate, console, make_table, measure, number
from scan_checks import BOTH, FORWARD, PASSES, STATES, Size, checked
from scan_peers import Peer

FEW, MANY = 32, 128  # states, of which the difference in time is arithmetic alone
STATES_SIZE = (1, 1024, 64)
COPY = 2**26  # numbers, far more than any cache holds
# Numbers that a pass must move, if everything between its inputs and its outputs stays in the caches: multiples of
# B L D, then of B L N. Forward: u, delta, z, out; B, C. Backward: those inputs again, the gradient of out, and the
# gradients of u, delta, z; B, C and their gradients.
MOVED = {FORWARD: (4, 2), BOTH: (4 + 7, 2 + 4)}
EXPONENTIALS = {FORWARD: 1, BOTH: 2}  # per state update, where no pass keeps all decays for the other
PER_CLOCK = 16  # special functions that a multiprocessor of NVIDIA's computes per clock, from Volta to Hopper
GPU_GOAL = 0.3  # of the bound, forward


def on_cpu(name: str, peer: Peer, sizes: list[Size]) -> list[Bar]:
    """One core: the kernel's own arithmetic, and what a copy moves."""
    source = torch.randn(COPY)
    target = torch.empty_like(source)
    for what in PASSES:
        problems = {size: checked(name, peer, size, "cpu", what) for size in sizes}
        problems |= {n: checked(name, peer, STATES_SIZE, "cpu", what, n) for n in (FEW, MANY)}
        if failed := next((problem for problem in problems.values() if isinstance(problem, str)), ""):
            console.print(f"roofline: {name}, {what}: {failed}")
            continue
        times = measure(problems | {"copy": Candidate(lambda: target.copy_(source))})
        speed = 2 * source.nbytes / times["copy"]  # read and written
        arithmetic = (times[MANY] - times[FEW]) / (math.prod(STATES_SIZE) * (MANY - FEW))
        table = make_table(f"{what}: bounds of {name} on one core, ns per state update, N={STATES}", "")
        rows: dict[str, list[str]] = {
            "arithmetic alone": [],
            f"memory alone, at {speed / 1e9:.0f} GB/s": [],
            "measured": [],
            "share of the larger bound": [],
        }
        for size in sizes:
            table.add_column("B={} L={} D={}".format(*size), justify="right")
            per_token, per_weight = MOVED[what]
            memory = 4 * (per_token / STATES + per_weight / size[2]) / speed
            measured = times[size] / (math.prod(size) * STATES)
            cells = (*(number(1e9 * x) for x in (arithmetic, memory, measured)),)
            cells += (f"{max(arithmetic, memory) / measured:.0%}",)
            for row, cell in zip(rows.values(), cells, strict=True):
                row.append(cell)
        for title, row in rows.items():
            table.add_row(title, *row)
        console.print(table)
    console.print(
        f"Arithmetic alone is what one more state costs this kernel: the time at N={MANY} less that at N={FEW}, D=64,\n"
        "per state update, so that all that is done once per token or call cancels. A better loop would lower it.\n"
        "Memory alone is inputs and outputs, moved once, at the speed of a large copy."
    )
    return []


def on_gpu(times: dict[tuple[str, str, Size], float]) -> list[Bar]:
    """The share of the exponential bound that each scan reaches.

    Args:
        times: Seconds by scan, pass and size.
    """
    properties = torch.cuda.get_device_properties()
    hertz = clock_rate(properties)
    if not hertz:
        console.print("exponential bound: not known, for PyTorch does not tell the clock rate here")
        return []
    exponentials = properties.multi_processor_count * PER_CLOCK * hertz
    sizes = list(dict.fromkeys(size for _, _, size in times))
    title = (
        f"Share of the exponential bound: {properties.multi_processor_count} multiprocessors x {PER_CLOCK} per clock"
        f" x {hertz / 1e9:.2f} GHz"
    )
    table = make_table(title, "scan", *("B={} L={} D={}".format(*size) for size in sizes))
    shares = {
        (name, what, size): EXPONENTIALS[what] * math.prod(size) * STATES / exponentials / seconds
        for (name, what, size), seconds in times.items()
    }
    for name, what in dict.fromkeys((name, what) for name, what, _ in times):
        row = (shares.get((name, what, size)) for size in sizes)
        table.add_row(f"{name}, {what}", *("-" if share is None else f"{share:.1%}" for share in row))
    console.print(table)
    triton = [share for (name, what, _), share in shares.items() if (name, what) == ("triton", FORWARD)]
    return [Bar(f"share of the exponential bound, triton, {FORWARD}", min(triton, default=None), GPU_GOAL)]


def clock_rate(properties: object) -> float | None:
    """The highest clock of the multiprocessors in hertz, else the present one."""
    if kilohertz := getattr(properties, "clock_rate", 0):
        return kilohertz * 1e3
    try:
        return torch.cuda.clock_rate() * 1e6
    except Exception:  # needs NVIDIA's Python package, and a driver that answers
        return None
