"""The tables of `student_costs.py`, as Markdown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import timm
import torch
from measuring import number, processor

Kind = str  # of a measured time
ONE_THREAD = {"fp32": "1 thread, fp32", "bf16": "1 thread, bf16"}
TWO_THREADS = {"fp32": "2 threads, fp32", "bf16": "2 threads, bf16"}
GPU = {"fp32": "GPU, fp32", "bf16": "GPU, bf16"}
THROUGHPUT = "GPU, bf16, in batches"
CPU_TIMES = (ONE_THREAD["fp32"], TWO_THREADS["fp32"], ONE_THREAD["bf16"], TWO_THREADS["bf16"])
OFF_LINEAR = 0.15
LINEAR = ("RS4D", "EfficientViT")  # students that are to stay within it


@dataclass
class Row:
    """One model at one size.

    Args:
        name: Of the model.
        size: Side of the image in pixels.
        parameters: Their number.
        macs: Executed multiply-adds of one image.
        expected: Seconds of a pass on one thread, roughly.
        peak: Bytes of weights and pass at their peak, on the CPU.
        gpu_peak: The same on the GPU.
        seconds: Of one image, by kind.
        note: Why nothing was measured.
    """

    name: str
    size: int
    parameters: int
    macs: int
    expected: float = math.inf
    peak: float | None = None
    gpu_peak: float | None = None
    seconds: dict[Kind, float] = field(default_factory=dict)
    note: str = ""


def report(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """The whole page."""
    return "\n".join(
        [
            "# What the students cost",
            "",
            "Written by `python benchmarks/student_costs.py`, whose opening comment says how everything is measured.",
            f"{machine()}.",
            *[f"{note[0].upper()}{note[1:]}." for note in notes],
            "",
            *costs(rows),
            "",
            "## Time against pixels",
            "",
            *linearity(rows),
            "",
        ]
    )


def machine() -> str:
    parts = [processor(), f"torch {torch.__version__}", f"timm {timm.__version__}"]
    if torch.cuda.is_available():
        parts.insert(1, torch.cuda.get_device_name())
    return ", ".join(parts)


def costs(rows: Sequence[Row]) -> list[str]:
    """One row for each model and size: by size, then the fastest first."""
    on_gpu = any(row.gpu_peak is not None for row in rows)
    head = ["px", "model", "parameters / M", "multiply-adds / G", *(f"ms, {kind}" for kind in CPU_TIMES), "peak / MB"]
    if on_gpu:
        head += [*(f"ms, {kind}" for kind in GPU.values()), f"images / s, {THROUGHPUT}", "GPU peak / MB"]
    lines = []
    for row in sorted(rows, key=lambda row: (row.size, row.seconds.get(ONE_THREAD["fp32"], math.inf), row.macs)):
        cells = [str(row.size), row.name, f"{row.parameters / 1e6:.2f}", number(row.macs / 1e9)]
        cells += [shown(row.seconds.get(kind), 1e3) for kind in CPU_TIMES]
        cells.append(row.note or shown(row.peak, 1e-6))
        if on_gpu:
            cells += [shown(row.seconds.get(kind), 1e3) for kind in GPU.values()]
            rate = 1 / row.seconds[THROUGHPUT] if THROUGHPUT in row.seconds else None
            cells += [shown(rate), shown(row.gpu_peak, 1e-6)]
        lines.append(cells)
    return markdown(head, lines, left=2)


def linearity(rows: Sequence[Row]) -> list[str]:
    """Time per pixel on one thread by size, and how far it is from a line through the origin, nearest first."""
    times: dict[str, dict[int, float]] = {}
    for row in rows:
        if ONE_THREAD["fp32"] in row.seconds:
            times.setdefault(row.name, {})[row.size] = 1e9 * row.seconds[ONE_THREAD["fp32"]] / row.size**2
    sizes = sorted({row.size for row in rows})
    several = {name: by_size for name, by_size in times.items() if len(by_size) > 1}
    if not several:
        return ["A single size was measured."]
    lines = []
    for name, by_size in sorted(several.items(), key=lambda item: off_linear(item[1])):
        off = off_linear(by_size)
        goal = ("met" if off <= OFF_LINEAR else "missed") if name.startswith(LINEAR) else ""
        lines.append([name, *(shown(by_size.get(size)) for size in sizes), f"{off:.0%}", goal])
    head = ["model", *(f"ns per pixel, {size} px" for size in sizes), "off linear by", f"goal: {OFF_LINEAR:.0%}"]
    text = "One thread, fp32. Off linear is the largest error of the one cost per pixel that fits all sizes best."
    return [text, "", *markdown(head, lines, left=1)]


def off_linear(per_pixel: dict[int, float]) -> float:
    """The largest relative error of the best constant cost per pixel."""
    low, high = min(per_pixel.values()), max(per_pixel.values())
    return (high - low) / (high + low)


def shown(value: float | None, factor: float = 1) -> str:
    """A number, or nothing where there is none."""
    return "" if value is None else number(factor * value)


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]], left: int) -> list[str]:
    """The lines of a table whose first `left` columns hold names and whose others hold numbers."""
    rule = ["---" if index < left else "---:" for index in range(len(head))]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *lines)]
