"""What every student costs: parameters, multiply-adds, time and memory, beside SAM's encoders, ResNet-50 and UPerNet.

    python benchmarks/student_costs.py                               # the smallest of each, 256 to 2048 px
    python benchmarks/student_costs.py --write docs/students_benchmark.md
    python benchmarks/student_costs.py --larger --sam-large          # every variant, and SAM ViT-L and ViT-H
    python benchmarks/student_costs.py --models "RS4D base" "SAM ViT-B" --sizes 256 512

Random weights, one image, eval mode. Models with a decoder, UPerNet too, end at logits as large as the image.
Multiply-adds are those executed, the scan and attention included. On the CPU all models of a size take turns, so that a
busy machine slows all, on one thread and two, in float32 and with weights and image in bfloat16. Peak memory is what a
process that does one float32 pass needs for weights and pass. On a GPU, if there is one: the time of one image, images
per second in batches, and peak memory. A size is left out where a pass would take longer than --limit or more memory
than is free, and the table says so. With LALE S1 and UPerNet comes the ratio of their throughputs at 256 px.

On the CPU freed memory is kept (`distill.training.allocator`), as in a run. The script is not called students.py
because the other benchmarks, which lie beside it, import the package of that name.
"""

import argparse
import copy
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from measuring import Bar, Candidate, measure, print_goals
from student_costs_memory import peak_of_a_pass
from student_costs_models import SMALL_LALE, UPERNET, Build, forward, larger, sam_large, smallest
from student_costs_report import GPU, ONE_THREAD, THROUGHPUT, TWO_THREADS, Kind, Row, report
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from distill.evaluation.cost import count_macs
from distill.training.allocator import keep_freed_memory

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
SPEED_UP = 5  # LALE-S1 over UPerNet
NO_WARM_UP = 10  # seconds a call, from which on the first one is timed
BATCH = 16  # images, where throughput is measured


def main() -> None:
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024, 2048], help="sides in pixels")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="these alone; a wrong name lists all")
    parser.add_argument("--larger", action="store_true", help="also the larger variants of every student")
    parser.add_argument("--sam-large", action="store_true", help="also SAM ViT-L and ViT-H")
    parser.add_argument("--limit", type=float, default=60, help="seconds that one pass may take")
    parser.add_argument("--gpu-only", action="store_true", help="no times of the CPU")
    parser.add_argument("--write", type=Path, metavar="FILE", help="where the tables go as Markdown")
    arguments = parser.parse_args()

    known = smallest() | larger() | sam_large()
    if wrong := [name for name in arguments.models or () if name not in known]:
        raise SystemExit(f"unknown model {wrong[0]!r}; there are {', '.join(known)}")
    chosen = smallest() | (larger() if arguments.larger else {}) | (sam_large() if arguments.sam_large else {})
    if arguments.models:
        chosen = {name: known[name] for name in arguments.models}
    if arguments.gpu_only and not torch.cuda.is_available():
        raise SystemExit("--gpu-only, and PyTorch finds no GPU here")
    notes = [] if torch.cuda.is_available() else ["no GPU at hand"]

    torch.manual_seed(0)
    sizes = sorted(arguments.sizes)
    rows = [row for name, build in chosen.items() for row in probe(name, build, sizes, arguments.limit)]
    slowdown = dict.fromkeys(chosen, 1.0)
    for size in sizes:
        measured = [row for row in rows if row.size == size]
        if not arguments.gpu_only:
            time_on_cpu(measured, chosen, slowdown, arguments.limit)
        if torch.cuda.is_available():
            for row in measured:
                time_on_gpu(row, chosen[row.name])
    text = report(rows, notes)
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")
    if UPERNET in chosen and SMALL_LALE in chosen and not arguments.gpu_only:
        compare_throughput(chosen[SMALL_LALE](256), chosen[UPERNET](256))


def probe(name: str, build: Build, sizes: list[int], limit: float) -> list[Row]:
    """What does not change from run to run, and a first pass in a process of its own: peak memory, and about how long.

    A size whose pass would take longer than `limit`, going by the multiply-adds, and the sizes above it have a note
    instead.
    """
    rows: list[Row] = []
    for size in sizes:
        model = build(size)
        with FakeTensorMode(allow_non_fake_inputs=True):
            macs = count_macs(model, size)
        row = Row(name, size, sum(parameter.numel() for parameter in model.parameters()), macs)
        last = rows[-1] if rows else None
        rows.append(row)
        if last is not None and last.note:
            row.note = last.note
            continue
        expected = last.expected * macs / last.macs if last is not None else 0.0
        if expected > limit:
            row.note = f"a pass would take {expected:.0f} s"
            continue
        try:
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                row.expected, row.peak = pool.submit(peak_of_a_pass, name, size).result()
        except (MemoryError, BrokenProcessPool):
            row.note = "more memory than is free"
    return rows


def time_on_cpu(rows: list[Row], models: dict[str, Build], slowdown: dict[str, float], limit: float) -> None:
    """Fills in the times of the models of one size.

    Args:
        rows: One of each model.
        models: How to build them.
        slowdown: Of bfloat16 against float32, as the last size showed it: on processors without instructions for it,
            nobody knows before.
        limit: Seconds that one pass may take.
    """
    candidates: dict[tuple[str, Kind], Candidate] = {}
    for row in (row for row in rows if not row.note):
        model = models[row.name](row.size).eval()
        for precision, dtype in PRECISIONS.items():
            first = row.expected * (slowdown[row.name] if precision == "bf16" else 1)
            if first > limit:
                continue
            weights = model if precision == "fp32" else copy.deepcopy(model).to(dtype)
            run = partial(forward, weights, torch.randn(1, 3, row.size, row.size, dtype=dtype))
            for threads, kind in ((1, ONE_THREAD), (2, TWO_THREADS)):
                known = first if first > NO_WARM_UP else None
                candidates[row.name, kind[precision]] = Candidate(run, known, threads)
    for (name, kind), seconds in measure(candidates).items():
        next(row for row in rows if row.name == name).seconds[kind] = seconds
    for row in rows:
        if ONE_THREAD["bf16"] in row.seconds:
            slowdown[row.name] = row.seconds[ONE_THREAD["bf16"]] / row.seconds[ONE_THREAD["fp32"]]


def time_on_gpu(row: Row, build: Build) -> None:
    """Fills in the times and the peak memory of one model of one size."""
    model = build(row.size).eval().cuda()
    for precision, dtype in PRECISIONS.items():
        model = model.to(dtype)
        image = torch.randn(1, 3, row.size, row.size, dtype=dtype, device="cuda")
        try:
            forward(model, image)
            torch.cuda.reset_peak_memory_stats()
            forward(model, image)
        except torch.cuda.OutOfMemoryError:
            row.note = row.note or "more memory than the GPU has"
            return
        if precision == "fp32":
            row.gpu_peak = torch.cuda.max_memory_allocated()
        kind = GPU[precision]
        row.seconds |= measure({kind: Candidate(partial(forward, model, image))})
    batch = BATCH
    while batch:
        try:
            images = image.expand(batch, -1, -1, -1).contiguous()
            per_batch = measure({THROUGHPUT: Candidate(partial(forward, model, images))})[THROUGHPUT]
            row.seconds[THROUGHPUT] = per_batch / batch
            return
        except torch.cuda.OutOfMemoryError:
            batch //= 2


def compare_throughput(lale: nn.Module, other: nn.Module) -> None:
    """LALE with its decoder against UPerNet at 256 px: images per second on one thread."""
    models = {SMALL_LALE: lale.eval(), UPERNET: other.eval()}
    bars = []
    for batch in (1, BATCH):
        images = torch.randn(batch, 3, 256, 256)
        seconds = measure({name: Candidate(partial(forward, model, images)) for name, model in models.items()})
        bars.append(
            Bar(f"{SMALL_LALE}, batch {batch}: {UPERNET}'s time", seconds[UPERNET] / seconds[SMALL_LALE], SPEED_UP)
        )
    print_goals(bars)


if __name__ == "__main__":
    main()
