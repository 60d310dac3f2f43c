"""How much faster teachers.SAM is than timm's module with the same weights, and how far its bfloat16 is from float32.

    python benchmarks/sam_teacher.py                       # all cases, under 4 minutes on two idle cores
    python benchmarks/sam_teacher.py 512x1 512x2           # images of 512 pixels, alone and two at once
    OMP_NUM_THREADS=1 python benchmarks/sam_teacher.py 1024x1 --cpu-time      # on a machine that others use, too

ViT-B with random weights whose position tables and norms are of the size of trained ones. All run in one process and
take turns; the median counts. Freed memory stays in the process, as in a fit (`distill.training.allocator`);
`--return-memory` lets glibc return it, as in a plain script, which costs timm more.

Errors are L2 distances of the neck from timm's in float32: relative to its norm, and to the norm of its deviation from
the mean of each channel over the image, which is smaller. Memory is what a pass adds to the peak of a fresh process.
"""

import argparse
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import timm
import torch
from measuring import Bar, console, make_table, print_goals, processor
from torch import Tensor, nn

from distill.training.allocator import keep_freed_memory
from teachers.precision import multiplies_bfloat16
from teachers.sam_encoder import Encoder

CASES = {"1024x1": 3, "1024x2": 2, "512x1": 3, "512x2": 3}  # pixels x images: timed turns
TIMM, AUTOCAST, FLOAT32, BFLOAT16 = (
    "timm float32",
    "timm bfloat16 autocast",
    "teachers.SAM float32",
    "teachers.SAM bfloat16",
)
GOALS = {FLOAT32: 1.3, BFLOAT16: 2.3}  # times timm's float32
MOST_ERROR = {FLOAT32: 1e-4, BFLOAT16: 0.01}  # of the neck, L2 relative to timm's float32
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), help="pixels x images, such as 768x1")
    parser.add_argument("--runs", type=int, help="timed turns of each; by default 2 or 3, by the case")
    parser.add_argument(
        "--cpu-time", action="store_true", help="time of the processor instead of the clock on the wall"
    )
    parser.add_argument("--return-memory", action="store_true", help="return freed memory to the system")
    parser.add_argument("--no-memory", action="store_true", help="do not measure the peak of memory")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)  # what `peak` starts
    arguments = parser.parse_args()
    images = {
        case: torch.rand(int(n), 3, int(side), int(side)) for case in arguments.cases for side, n in [case.split("x")]
    }
    if not arguments.return_memory:
        keep_freed_memory()
    passes = build()
    if arguments.peak_of:
        print(grown_by(partial(passes[arguments.peak_of], next(iter(images.values())))))
        return

    for run in passes.values():
        run(torch.rand(1, 3, 256, 256))  # the first pass of a process is slow
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    title = f"A pass, in seconds of the {'processor' if arguments.cpu_time else 'wall'}"
    table = make_table(title, "", "pixels x images", "time / s", "times timm's speed", "error", "of the deviation")
    least: dict[str, float] = {}
    for case, batch in images.items():
        seconds, errors = in_turns(passes, batch, arguments.runs or CASES.get(case, 3), clock)
        for name, median in seconds.items():
            ratio = seconds[TIMM] / median
            least[name] = min(ratio, least.get(name, ratio))
            table.add_row(name, case, f"{median:.2f}", f"{ratio:.2f}", *(f"{error:.1e}" for error in errors[name]))
            if not errors[name][0] < MOST_ERROR.get(name, math.inf):
                raise SystemExit(f"{name} differs by {errors[name][0]:.1e} at {case}; its time means nothing")
        table.add_section()
    console.print(table)
    if not arguments.no_memory:
        case = arguments.cases[0]
        peaks = "; ".join(f"{name} {peak(name, case)} MiB" for name in passes)
        console.print(f"Peak of memory at {case}: {peaks}")
    memory = "returned to the system" if arguments.return_memory else "kept"
    console.print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, freed memory {memory}, {processor()}")
    if not multiplies_bfloat16(torch.device("cpu")):
        console.print(
            "This processor has no AVX512-BF16: auto is float32 here, and the goal of bfloat16 does not apply"
        )
    print_goals([Bar(f"{name}: times timm's float32", least[name], goal) for name, goal in GOALS.items()])


def build() -> dict[str, Callable[[Tensor], Tensor]]:
    """What is timed: functions from images to the neck."""
    torch.manual_seed(0)
    norm = partial(nn.LayerNorm, eps=1e-6)
    model = timm.create_model("samvit_base_patch16", num_classes=0, norm_layer=norm).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "rel_pos" in name:
                parameter.normal_(std=0.2)
            elif "norm" in name or "bias" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.pos_embed.normal_(std=0.3)
    fine, coarse = Encoder(model, torch.float32), Encoder(model, torch.bfloat16)

    def autocast(images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model.forward_features(images)

    passes = {
        TIMM: model.forward_features,
        AUTOCAST: autocast,
        FLOAT32: lambda images: fine(images, [])[0],
        BFLOAT16: lambda images: coarse(images, [])[0],
    }
    return {name: torch.inference_mode()(run) for name, run in passes.items()}


def in_turns(
    passes: dict[str, Callable[[Tensor], Tensor]], images: Tensor, runs: int, clock: Callable[[], float]
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Median seconds of each, and its two errors."""
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    errors = {}
    for _ in range(runs):
        for name, run in passes.items():
            start = clock()
            found = run(images)
            seconds[name].append(clock() - start)
            if name == TIMM:
                expected = found
            distance, deviation = (found.float() - expected).norm(), expected - expected.mean((2, 3), keepdim=True)
            errors[name] = float(distance / expected.norm()), float(distance / deviation.norm())
    return {name: statistics.median(each) for name, each in seconds.items()}, errors


def grown_by(run: Callable[[], object]) -> int:
    """By how many MiB a call raises the process's peak of memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 // MIB


def peak(name: str, case: str) -> int:
    """The same in a fresh process."""
    command = [sys.executable, __file__, case, "--peak-of", name, "--return-memory"]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
