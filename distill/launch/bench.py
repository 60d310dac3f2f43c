"""`distill.bench`: what trained models cost where they will run, run folders and exported files side by side."""

import math
from collections.abc import Callable, Sequence
from os import PathLike

import torch

from distill.errors import UserError, unknown_name
from distill.evaluation.parts import shared_out
from distill.evaluation.turns import estimated_seconds, take_turns
from distill.evaluation.units import counted, duration
from distill.exported.facts import FLOAT32
from distill.launch.bench_models import PRECISIONS, BenchModel, Pass, open_bench_model
from distill.launch.peak_memory import peak_memory
from distill.phases import phase
from distill.report.bench import Bench, Count, Timing
from distill.runs.metadata import cpu_name

_REPEATS = 5
_WARM_UP = 3  # passes that do not count; OpenVINO compiles for a size in the second


def bench(
    models: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    image_size: int | None = None,
    threads: int | Sequence[int] | None = None,
    precision: str | Sequence[str] = FLOAT32,
    repeats: int = _REPEATS,
    memory: bool = True,
) -> Bench:
    """Times models on the CPU, in turns, so that a busy moment slows all of them alike.

    A pass is one image, from its pixels in [0, 1] to what the network gives; reading, resizing and, of files, pasting
    masks are not in it. A detector finds as many instances as it may in every pass, in a run folder by
    `HeadBase.full_work`, in a file because its counts are fixed.

    Args:
        models: Run folders and files of `distill export`.
        image_size: Side of the square image in pixels; by default that of the first model. It grows to a multiple of
            all strides.
        threads: Numbers of threads, each of which all models are timed with; by default PyTorch's.
        precision: "float32", "bfloat16", or both. bfloat16 is PyTorch's autocast and OpenVINO's own, on processors that
            have it. A file in int8 computes in int8 whatever this says.
        repeats: Rounds at least; more are added until the times are precise.
        memory: Whether the peak of memory is measured, in a process for each row.

    Raises:
        UserError: A model cannot be opened, a number is out of range, or no model computes in a wanted precision.
    """
    names = [models] if isinstance(models, str | PathLike) else list(models)
    if not names:
        raise UserError("there is nothing to time; name run folders or exported files")
    wanted = list(dict.fromkeys([precision] if isinstance(precision, str) else precision))
    for name in wanted:
        if name not in PRECISIONS:
            raise unknown_name("precision", name, PRECISIONS)
    if threads is None or isinstance(threads, int):
        threads = [torch.get_num_threads() if threads is None else threads]
    counts = list(dict.fromkeys(threads))
    for key, value in (("repeats", repeats), *(("threads", count) for count in counts)):
        if value < 1:
            raise UserError(f"{key} is {value}; it must be 1 or more")
    with phase(f"opening {counted(len(names), 'model')}"):
        opened = [open_bench_model(name) for name in names]
    side = _side(opened, image_size)
    before = torch.get_num_threads()
    try:
        return _measured(opened, side, counts, wanted, repeats, memory)
    finally:
        torch.set_num_threads(before)


def _measured(
    models: Sequence[BenchModel], side: int, threads: Sequence[int], wanted: Sequence[str], repeats: int, memory: bool
) -> Bench:
    places = [
        (model, count, precision, shown)
        for count in threads
        for model in models
        for precision, shown in model.precisions(wanted).items()
    ]
    if not places:
        raise UserError(f"none of the models computes in {' or '.join(wanted)} on this processor; give float32")
    spent: list[list[dict[str, float]]] = [[] for _ in places]
    with phase("first passes"):
        passes = {i: _summed(place[0].prepared(side, *place[1:3]), spent[i]) for i, place in enumerate(places)}
        once = {i: [run() for _ in range(_WARM_UP)][-1] for i, run in passes.items()}
    for one in spent:
        one.clear()
    expected = max(estimated_seconds(once), repeats * sum(once.values()))
    with phase(f"timing {counted(len(places), 'row')} in turns, {duration(expected)} or, on a busy machine, more"):
        turns = take_turns(passes, repeats)
    with phase("counting multiply-adds"):
        found = [Count(model.name, model.megabytes, model.instances, model.multiply_adds(side)) for model in models]
    peaks: list[float | None] = [None] * len(places)
    if memory:
        with phase("measuring memory", len(places)) as advance:
            for i, (model, count, precision, _) in enumerate(places):
                peaks[i] = peak_memory(model.name, side, count, precision)
                advance(1)
    timings = []
    for i, (model, count, _, shown) in enumerate(places):
        parts = {part: 1000 * seconds for part, seconds in shared_out(turns.seconds[i], spent[i]).items() if part}
        timings.append(Timing(model.name, model.runtime, shown, count, 1000 * turns.seconds[i], parts, peaks[i]))
    versions = {"torch": torch.__version__}
    return Bench(cpu_name(), side, timings, found, turns.rounds, turns.error, turns.slowdown, versions)


def _summed(run: Pass, spent: list[dict[str, float]]) -> Callable[[], float]:
    """A pass that returns the seconds of all parts, and keeps those of each."""

    def summed() -> float:
        spent.append(run())
        return sum(spent[-1].values())

    return summed


def _side(models: Sequence[BenchModel], given: int | None) -> int:
    side = given or next((model.side for model in models if model.side is not None), None)
    if side is None:
        raise UserError(f"{models[0].name} does not tell how large its images are; give --image-size")
    if side < 1:
        raise UserError(f"image_size is {side}; it must be 1 or more")
    stride = math.lcm(*(model.stride for model in models))
    return math.ceil(side / stride) * stride
