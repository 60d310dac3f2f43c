"""The selective scan against its peers, side by side in one run; scans that differ from float64 are not timed.

    python benchmarks/scan.py                   # everything, about five minutes on two cores
    python benchmarks/scan.py --peers --memory  # parts; also --accuracy, --threads, --roofline, --scaling, --images
    python benchmarks/scan.py --device cuda     # on a GPU, in bfloat16: its backends, and mamba-ssm where installed

All candidates of a table take turns, so that a busy machine slows all; medians are printed. A state update is one of
the B D L N steps of the recurrence. What must be compiled, and backward passes quadratic in L, run at the smallest size
only.
"""

import argparse
import math
import os
import time
from functools import partial

import scan_bounds
import scan_scaling
import torch
from measuring import Bar, Candidate, console, make_table, measure, number, print_goals, processor
from scan_checks import (
    BOTH,
    FORWARD,
    PASSES,
    STATES,
    STEPS,
    TOLERANCE,
    Size,
    checked,
    distances,
    error,
    gradients,
    make_problem,
    place,
    with_means,
)
from scan_memory import MEMORY_SIZE, peak
from scan_peers import (
    ASSOCIATIVE,
    CHUNKED,
    MAMBA_SSM,
    MAMBA_SSM_BACKEND,
    MAMBAPY,
    SEQUENTIAL,
    UNBOUND,
    Peer,
    available_peers,
    best_of_ours,
    fused,
    fused_low_rank,
    image_problems,
    selective_scan_softplus,
    two_calls,
    two_calls_low_rank,
)

SIZES = {
    "cpu": [(1, 1024, 192), (1, 1024, 512), (1, 4096, 192), (1, 4096, 512)],
    "cuda": [(8, 1024, 768), (8, 4096, 768)],
}
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
    "cuda": [(name, what, 1) for name in (MAMBA_SSM, MAMBA_SSM_BACKEND) for what in PASSES],
}
THREADS_GOALS = {FORWARD: 1.7, BOTH: 1.6}
LENGTHS = [2**power for power in range(10, 17)]
GRID, IMAGE_CHANNELS, RANK = 64, 512, 16
ACCURACY_SIZE = (1, 4096, 64)
DEFAULT_THREADS = torch.get_num_threads()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {
        "accuracy": accuracy,
        "peers": peers,
        "threads": threads,
        "roofline": roofline,
        "memory": memory,
        "images": images,
        "scaling": scaling,  # last: from there on freed memory is kept
    }
    for name in parts:
        parser.add_argument(f"--{name}", action="store_true", help="only this part, and others named so")
    parser.add_argument("--device", choices=list(SIZES), default="cpu")
    parser.add_argument("--small", action="store_true", help="the smallest sizes only: to see whether it runs")
    arguments = parser.parse_args()
    named = [name for name in parts if getattr(arguments, name)]
    on_cpu_only = ("accuracy", "threads", "roofline", "images")
    machine = f"{processor()}, {os.cpu_count()} cores"
    if arguments.device == "cuda":
        if not torch.cuda.is_available():
            parser.error("--device is cuda, and PyTorch finds no GPU here")
        if refused := [name for name in named if name in on_cpu_only]:
            parser.error(f"--{refused[0]} is measured on the CPU only")
        parts = {name: part for name, part in parts.items() if name not in on_cpu_only}
        machine = torch.cuda.get_device_name()
    if arguments.small:
        del SIZES[arguments.device][1:], LENGTHS[3:]

    torch.set_num_threads(1)
    console.print(f"torch {torch.__version__}, {machine}; one thread unless said otherwise\n")
    bars = []
    for name in named or parts:
        start = time.perf_counter()
        bars += parts[name](arguments.device)
        console.print(f"[dim]{name}: {time.perf_counter() - start:.0f} s[/dim]\n")
    if bars:
        print_goals(bars)


def accuracy(device: str) -> list[Bar]:
    """Our backends in float32 against float64."""
    found, _ = available_peers(device)
    problem = make_problem(*ACCURACY_SIZE, STATES, torch.float32)
    title = f"RMS error of the output, of the worst gradient, {describe(ACCURACY_SIZE)}, N={STATES}"
    table = make_table(title, "scan", *STEPS)
    rows: dict[str, list[str]] = {name: [] for name, peer in found.items() if peer.ours}
    for steps in STEPS:
        exact = with_means(problem, steps)
        expected = gradients(partial(selective_scan_softplus, backend="chunked"), exact)
        for name, row in rows.items():
            errors = distances(gradients(found[name].run, place(exact, found[name], device, torch.float32)), expected)
            row.append(f"{errors[0]:.1e}, {max(errors[1:]):.1e}")
    for name, row in rows.items():
        table.add_row(name, *row)
    console.print(table)
    return []


def peers(device: str) -> list[Bar]:
    """Every peer at every size, on one thread; on a GPU also as a share of the exponential bound."""
    found, missing = available_peers(device)
    for name, reason in missing.items():
        console.print(f"{name}: not measured: {reason}")
    ratios: dict[tuple[str, str], list[float]] = {}
    seconds: dict[tuple[str, str, Size], float] = {}
    for what in PASSES:
        title = (
            f"{what}{' on one thread' * (device == 'cpu')}: ns per state update (times the best of ours), N={STATES}"
        )
        table = make_table(title, "peer", *map(describe, SIZES[device]))
        cells: dict[str, list[str]] = {name: [] for name in found}
        for size in SIZES[device]:
            smallest = size == SIZES[device][0]
            running = {
                name: peer
                for name, peer in found.items()
                if smallest or not (peer.compiled or (peer.quadratic and what == BOTH))
            }
            times, failed = check_and_measure(running, size, device, what, [1])
            best = min((times[name, 1] for name in running if found[name].ours and (name, 1) in times), default=None)
            for name, row in cells.items():
                if (name, 1) not in times:
                    row.append(failed.get(name, "-"))
                    continue
                seconds[name, what, size] = time_ = times[name, 1]
                row.append(per_update(time_, size, best))
                if best:
                    ratios.setdefault((name, what), []).append(time_ / best)
        for name, row in cells.items():
            table.add_row(name, *row)
        console.print(table)
    bars = [
        Bar(f"{name}, {what}", min(ratios.get((name, what), []), default=None), goal)
        for name, what, goal in GOALS[device]
    ]
    return bars + scan_bounds.on_gpu(seconds) if device == "cuda" else bars


def threads(device: str) -> list[Bar]:
    """Our backends, chunked PyTorch and mambapy at every size, on one thread and on two."""
    if (os.cpu_count() or 1) < 2:
        console.print("threads: not measured, there is one core")
        return []
    found, _ = available_peers(device)
    running = {name: peer for name, peer in found.items() if name == MAMBAPY or (peer.ours and name != UNBOUND)}
    best_backend = best_of_ours(found)
    bars = []
    for what in PASSES:
        title = (
            f"{what} on two threads: ns per state update (times the best of ours), times one thread's speed, N={STATES}"
        )
        table = make_table(title, "peer", *map(describe, SIZES[device]))
        cells: dict[str, list[str]] = {name: [] for name in running}
        chunked, speed_up = [], None
        for size in SIZES[device]:
            times, failed = check_and_measure(running, size, device, what, [1, 2])
            best = min((times[name, 2] for name in running if running[name].ours and (name, 2) in times), default=None)
            for name, row in cells.items():
                if (name, 2) not in times:
                    row.append(failed[name])
                    continue
                gain = times[name, 1] / times[name, 2]
                row.append(f"{per_update(times[name, 2], size, best)}, {gain:.2f}")
                if name == best_backend:
                    speed_up = gain  # in the end that of the largest size
                if name == CHUNKED and best:
                    chunked.append(times[name, 2] / best)
        for name, row in cells.items():
            table.add_row(name, *row)
        console.print(table)
        default = ", the default here" * (DEFAULT_THREADS == 2)
        bars.append(Bar(f"{CHUNKED}, {what}, two threads{default}", min(chunked, default=None), 10))
        bars.append(Bar(f"1 to 2 threads, {what}, {describe(SIZES[device][-1])}", speed_up, THREADS_GOALS[what]))
    console.print(
        f"{CHUNKED} keeps to one core whatever the number of threads: its calls are too short to share.\n"
        "Where another thread would cost more than it saves, our kernels do not take one."
    )
    return bars


def roofline(device: str) -> list[Bar]:
    """The best backend against the limits of one core."""
    found, _ = available_peers(device)
    best = best_of_ours(found)
    return scan_bounds.on_cpu(best, found[best], SIZES[device])


def memory(device: str) -> list[Bar]:
    """Growth of the memory over a forward and backward pass: on a CPU in a process of its own for each peer."""
    found, _ = available_peers(device)
    title = f"Peak memory of {BOTH}, {describe(MEMORY_SIZE[device])}"
    table = make_table(title, "peer", "MiB", "times the best of ours")
    grown = {name: peak(name, peer, device) for name, peer in found.items() if not peer.compiled}
    best = min((size for name, size in grown.items() if found[name].ours and isinstance(size, float)), default=None)
    ratios = {name: size / best for name, size in grown.items() if best and isinstance(size, float)}
    for name, size in grown.items():
        row = (size, "-") if isinstance(size, str) else (f"{size:.0f}", f"{ratios[name]:.1f}" if ratios else "-")
        table.add_row(name, *row)
    console.print(table)
    return [Bar(f"{MAMBAPY}, peak memory", ratios.get(MAMBAPY), 10)] if device == "cpu" else []


def scaling(device: str) -> list[Bar]:
    """Time per token against the number of tokens."""
    found, _ = available_peers(device)
    best = best_of_ours(found)
    peers = {name: found[name] for name in (CHUNKED, MAMBA_SSM, MAMBA_SSM_BACKEND, best) if name in found}
    return scan_scaling.time_per_token(peers, best, device, SIZES[device][0][2], LENGTHS)


def images(device: str) -> list[Bar]:
    """A gated bidirectional scan of an image: in one call, and as two 1-D calls on flipped copies."""
    full, low_rank = image_problems(GRID, IMAGE_CHANNELS, STATES, RANK)
    table = make_table(f"Bidirectional scan of {GRID} x {GRID} tokens, D={IMAGE_CHANNELS}: ms", "scan", *PASSES)
    bars = []
    variants = {"": (full, fused, two_calls), ", low-rank Δ": (low_rank, fused_low_rank, two_calls_low_rank)}
    for suffix, (problem, one, two) in variants.items():
        inputs = {name: tensor.to(device, torch.float32) for name, tensor in problem.items()}
        rows: dict[str, list[str]] = {"one 2-D call" + suffix: [], "two 1-D calls" + suffix: []}
        expected = PASSES[BOTH](partial(one, backend="reference"), problem)
        for what, call in PASSES.items():
            runs = {name: partial(call, run, inputs) for name, run in zip(rows, (one, two), strict=True)}
            for name, run in runs.items():
                found = run()
                if (worst := error(found, expected[: len(found)])) > TOLERANCE[torch.float32]:
                    raise SystemExit(f"{name}, {what}: wrong by {worst:.1g}")
            times = measure({name: Candidate(run) for name, run in runs.items()})
            for name, row in rows.items():
                row.append(f"{times[name] * 1e3:.3g}")
            fast, slow = times.values()
            bars.append(Bar(f"two 1-D calls{suffix}, {what}", slow / fast, 1.3))
        for name, row in rows.items():
            table.add_row(name, *row)
    console.print(table)
    return bars


def check_and_measure(
    running: dict[str, Peer], size: Size, device: str, what: str, counts: list[int]
) -> tuple[dict[tuple[str, int], float], dict[str, str]]:
    """Median seconds, by peer and threads, of those that agree with float64, and what the others did."""
    checks = {
        (name, count): checked(name, peer, size, device, what, threads=count)
        for count in counts
        for name, peer in running.items()
    }
    failed = {name: check for (name, _), check in checks.items() if isinstance(check, str)}
    agreeing = {key: check for key, check in checks.items() if key[0] not in failed and isinstance(check, Candidate)}
    return measure(agreeing), failed


def per_update(seconds: float, size: Size, best: float | None) -> str:
    times = f" ({seconds / best:.1f} x)" if best else ""
    return number(seconds / math.prod(size) / STATES * 1e9) + times


def describe(size: Size) -> str:
    return "B={} L={} D={}".format(*size)


if __name__ == "__main__":
    main()
