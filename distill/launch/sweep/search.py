"""A sweep whose cells Optuna's TPE samples, one after the other, from what the earlier ones reached."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from statistics import fmean
from typing import Any, Literal, TypeAlias

from distill.errors import UserError
from distill.evaluation.metrics import metric_of
from distill.launch.sweep.plan import Plan
from distill.launch.sweep.run import Sweep, do, tabled
from distill.recipe.axes import Axis, Cell, Range
from distill.report.run_record import RunRecord
from distill.runs.folder import RunFolder, RunState

STORAGE = "optuna.db"
_Direction: TypeAlias = Literal["minimize", "maximize"]
_SPACE = "axes"  # the attribute of a study that says what it samples
_METRIC = "metric"


def run_search(plan: Plan, axes: Sequence[Axis | Range], count: int, metric: str | None = None) -> Sweep:
    """Samples cells until there are `count` of them, runs each with every seed, and makes the table.

    A trial is stored before it runs, so that one that was interrupted goes on, and each sample is a function of the
    trials before it: an interrupted search tries what an unbroken one does. It goes by the last validation of each fit,
    never by test images.

    Args:
        plan: What the runs have in common.
        axes: What is sampled.
        count: Trials in all, those of earlier calls included.
        metric: What is improved, such as "val/l1_ratio", the mean over seeds; None for what the task selects by.

    Raises:
        UserError: Optuna is not installed, nothing is to be sampled, it is not known which values of the metric are
            better, or the folder holds another search.
        Stopped: See `distill.sweep`.
    """
    if find_spec("optuna") is None:
        raise UserError("a search needs Optuna; pip install 'distill-rs[search]'")
    if not axes or count < 1:
        raise UserError("a search needs --search N, 1 or more, and --over KEY=low..high or KEY=A,B,C")
    with _warnings_only():
        key, direction = _objective(plan, axes, metric)
        study = _study(plan, axes, key, direction)
        failures: dict[str, str] = {}
        while (trial := _next(study, axes, count)) is not None:
            runs = plan.runs([_cell(trial)])
            try:
                plan.parsed(runs[0])
            except UserError as error:  # of this cell: the next one may be possible
                failures |= dict.fromkeys((run.name for run in runs), " ".join(str(error).split()))
                study.tell(trial.number, state=_state("FAIL"))
                continue
            plan.require_possible(runs, files=False)
            failures |= do(plan, runs)
            scores = [score for run in runs if (score := _score(run.folder, key)) is not None]
            if len(scores) == len(runs):
                study.tell(trial.number, fmean(scores))
            else:
                for run in runs:
                    failures.setdefault(run.name, f"its last validation has no {key}")
                study.tell(trial.number, state=_state("FAIL"))
        return tabled(plan, [_cell(trial) for trial in study.trials], failures)


def _objective(plan: Plan, axes: Sequence[Axis | Range], metric: str | None) -> tuple[str, _Direction]:
    """The metric, and where it is to go."""
    lowest = {axis.key: axis.values[0] if isinstance(axis, Axis) else _text(axis, axis.low) for axis in axes}
    monitor, mode = plan.parsed(plan.runs([Cell("trial0", lowest)])[0]).task_class.monitor
    if metric is not None:
        monitor, mode = metric, metric_of(metric).better
    if mode is None or not monitor.startswith("val/"):
        raise UserError(
            f"--metric is {metric}; give one of the validation of which more or less is better, such as val/l1_ratio"
        )
    return monitor, "minimize" if mode == "min" else "maximize"


def _study(plan: Plan, axes: Sequence[Axis | Range], key: str, direction: _Direction) -> Any:
    import optuna

    plan.folder.mkdir(parents=True, exist_ok=True)
    storage = f"sqlite:///{plan.folder / STORAGE}"
    study = optuna.create_study(storage=storage, study_name="sweep", direction=direction, load_if_exists=True)
    wanted = {_METRIC: key, _SPACE: json.dumps([vars(axis) for axis in axes])}
    for name, value in wanted.items():
        if study.user_attrs.setdefault(name, value) != value:
            raise UserError(
                f"{plan.folder} holds a search with another {name} ({study.user_attrs[name]}); choose another folder "
                "with --out"
            )
        study.set_user_attr(name, value)
    return study


def _next(study: Any, axes: Sequence[Axis | Range], count: int) -> Any:
    """The trial that was interrupted, else a new one; None if all are done."""
    import optuna

    trials = study.trials
    if running := [trial for trial in trials if trial.state == _state("RUNNING")]:
        return running[0]
    if len(trials) >= count:
        return None
    study.sampler = optuna.samplers.TPESampler(seed=len(trials))  # anew, so that the past of a process is no matter
    return study.ask({axis.key: _distribution(axis) for axis in axes})


def _distribution(axis: Axis | Range) -> Any:
    from optuna import distributions

    if isinstance(axis, Axis):
        return distributions.CategoricalDistribution(axis.values)
    if axis.whole:
        return distributions.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return distributions.FloatDistribution(axis.low, axis.high, log=axis.log)


def _cell(trial: Any) -> Cell:
    return Cell(f"trial{trial.number}", {key: str(value) for key, value in trial.params.items()})


def _text(axis: Range, value: float) -> str:
    return str(int(value) if axis.whole else value)


def _score(folder: RunFolder, key: str) -> float | None:
    return RunRecord.read(folder).validation.get(key) if folder.state is RunState.FINISHED else None


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]


@contextmanager
def _warnings_only() -> Iterator[None]:
    """Optuna reports every trial, as the runs do themselves."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
