"""Times the models of a comparison anew, in turns in one process (`distill compare --measure`)."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from distill.errors import UserError
from distill.evaluation.cost import measure_memory
from distill.evaluation.turns import estimated_seconds, take_turns
from distill.launch.stored_run import StoredRun
from distill.phases import line_console, phase
from distill.report.compare.compared_run import ComparedRun
from distill.report.compare.measured import Measured
from distill.report.run_record import RunRecord
from distill.runs.metadata import cpu_name
from distill.targets.teacher_view import view_size

logger = logging.getLogger(__name__)

TEACHER = "teacher_"  # begins the names of costs of a distillation's teacher, as in summary.json
_WARM_UP = 2  # passes that do not count


@dataclass
class _Model:
    """An architecture with its image size, and what was found of it.

    Attributes:
        network: It, in eval mode.
        size: (H, W) of the image, in pixels.
        named: The folders of the runs that have it, and what begins the names of its costs there.
        costs: By their names in `COSTS`.
    """

    network: nn.Module
    size: tuple[int, int]
    named: list[tuple[Path, str]] = field(default_factory=list)
    costs: dict[str, float] = field(default_factory=dict)


def measure(records: Sequence[RunRecord]) -> Measured:
    """Times the students of runs, and the teachers of distillations, on the CPU and on the GPU if there is one.

    Runs with the same architecture and image size share a model, which is timed once, for one image and in float32. Its
    weights are random, which take the same time as trained ones, so that no file of them is needed; only a teacher
    whose file is known has that file's, because some teachers are built as their files say. Nothing is downloaded. All
    models are in memory at once, since they take turns: as many as there are different architectures, whatever the
    number of runs.

    What cannot be built or run is left out, and a warning says why. Random numbers, threads and gradients of the
    process stay as they are.

    Returns:
        The costs of each run folder. Those of a distillation also have `teacher_cpu_ms` and so on, of its teacher for
        the view that it gets of one image.
    """
    with _undisturbed():
        models = _models(records)
        rounds = _timed(models, "cpu", "CPU")
        for model in models:
            model.costs["memory_mb"] = measure_memory(model.network, model.size)
        if torch.cuda.is_available():
            _timed(models, "cuda", "GPU")
    costs: dict[Path, dict[str, float]] = {}
    for model in models:
        for folder, prefix in model.named:
            costs.setdefault(folder, {}).update({prefix + key: value for key, value in model.costs.items()})
    machine = {
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "torch": torch.__version__,
    }
    return Measured(machine, rounds, costs)


def _models(records: Sequence[RunRecord]) -> list[_Model]:
    """The different models of the runs, each built once."""
    found: dict[str, _Model | str] = {}  # a text says why there is none
    for run in (ComparedRun.of(record, None) for record in records):
        folder = run.record.folder.path
        wanted = {"": (run.architecture, _student)}
        if teacher := run.record.component("teacher"):
            file = run.record.weights_file("teacher")
            wanted[TEACHER] = (f"{run.architecture}, teacher {teacher}, {file and file.resolve()}", _teacher)
        for prefix, (key, build) in wanted.items():
            if key not in found:
                found[key] = _ready(build, run)
            model = found[key]
            if isinstance(model, _Model):
                model.named.append((folder, prefix))
            else:
                logger.warning("the %s of %s is not timed: %s", "teacher" if prefix else "student", folder, model)
    return [model for model in found.values() if isinstance(model, _Model)]


def _ready(build: Callable[[ComparedRun], _Model], run: ComparedRun) -> _Model | str:
    """A model that has run once; or in one line, why it cannot."""
    try:
        model = build(run)
        model.network.eval()
        _pass(model, "cpu")()
    except Exception as error:  # of a class of the user's own, which may raise anything
        return _in_one_line(error)
    return model


def _student(run: ComparedRun) -> _Model:
    side = _side(run)
    return _Model(StoredRun(run.record.folder.path).untrained_student(), (side, side))


def _teacher(run: ComparedRun) -> _Model:
    """The teacher of a distillation and the size of the view that it gets.

    Raises:
        UserError: Its weights are needed to build it, and are not here.
    """
    side, file = _side(run), run.record.weights_file("teacher")
    stored = StoredRun(run.record.folder.path)
    teacher = stored.teacher(file)
    stride = stored.untrained_student().feature_info.reduction()[-1]
    target = run.record.recipe["model"]["init_args"]["target"]
    return _Model(teacher, view_size((side, side), stride, teacher.reduction[target]))


def _side(run: ComparedRun) -> int:
    if run.image_size is None:
        raise UserError(f"{run.record.folder.recipe} has no data.image_size; add the side of the views to it")
    return run.image_size


def _timed(models: Sequence[_Model], device: str, name: str) -> int:
    """Times models in turns on a device and adds what it found to their costs.

    Returns:
        How many rounds it took.
    """
    passes: dict[int, Callable[[], float]] = {}
    once: dict[int, float] = {}
    for index, model in enumerate(models):
        try:
            model.network.to(device)
            run = _pass(model, device)
            once[index] = [run() for _ in range(_WARM_UP)][-1]
            passes[index] = run
        except RuntimeError as error:  # a GPU that is full
            logger.warning("%s is not timed on the %s: %s", model.named[0][0], name, _in_one_line(error))
    if not passes:
        return 0
    count = f"{len(passes)} model{'s' * (len(passes) > 1)}"
    with phase(f"timing {count} in turns on the {name}, {estimated_seconds(once):.0f} s or, on a busy machine, more"):
        turns = take_turns(passes)
    for index, seconds in turns.seconds.items():
        models[index].costs[f"{name.lower()}_ms"] = 1000 * seconds
    line_console().print(
        f"{name}: {turns.rounds} rounds, standard error {turns.error:.1%} at most; "
        f"the median round took {turns.slowdown:.2f} times as long as a quiet one"
    )
    return turns.rounds


def _pass(model: _Model, device: str) -> Callable[[], float]:
    """One pass over a grey image, which returns its seconds."""
    image = torch.full((1, 3, *model.size), 0.5, device=device)

    def run() -> float:
        start = time.perf_counter()
        model.network(image)
        if device != "cpu":
            torch.accelerator.synchronize(device)
        return time.perf_counter() - start

    return run


def _in_one_line(error: Exception) -> str:
    said = " ".join(str(error).split())
    return said if isinstance(error, UserError) else f"{type(error).__name__} {said}".strip()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Without gradients, after which random numbers are as before."""
    with torch.no_grad(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        yield
