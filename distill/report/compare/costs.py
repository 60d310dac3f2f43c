"""Costs of rows: times of one architecture on one machine are shared, and those of different machines are flagged."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

from distill.evaluation.metrics import COSTS
from distill.report.compare.compared_run import ComparedRun
from distill.report.compare.measured import Measured
from distill.report.compare.rows import Row
from distill.report.compare.spread import Value, fold, missing, number

_LATENCIES = {"cpu_ms": ("cpu", "threads"), "gpu_ms": ("gpus",)}  # and what of the machine they depend on
_TIMES = {**_LATENCIES, "train_hours": ("cpu", "threads", "gpus")}
_MEASURED = ("cpu_ms", "gpu_ms", "memory_mb")  # by `distill compare --measure`

Machine = tuple[str, ...]


class SharedCosts:
    """The costs of all runs of a comparison.

    Args:
        runs: All runs, of whatever section.
        measured: Costs that were taken for this comparison; they replace those that the runs stored.
    """

    def __init__(self, runs: Sequence[ComparedRun], measured: Measured | None) -> None:
        self.measured = measured
        self._timed: dict[tuple[str, str, Machine], list[float]] = {}
        for run in runs:
            for key in _LATENCIES:
                if (value := run.record.costs.get(key)) is not None:
                    self._timed.setdefault((key, run.architecture, machine_of(run, key)), []).append(value)

    def known(self, row: Row) -> list[str]:
        """Keys of the costs that a row has."""
        return [key for key in COSTS if self._each(row, key)]

    def value(self, row: Row, key: str) -> Value:
        """A cost of a row, or why there is none."""
        each = self._each(row, key)
        if key in row.told_costs:
            told = number(row.told_costs[key])
            return {"mean": told, "sd": None, "n": 1, "min": told, "max": told, "each": [], "flag": None}
        if not each:
            return missing(self._why_missing(row, key))
        if key not in _LATENCIES or self._is_measured(key):
            return fold([(run.seed, value) for run, value in each])
        pools = {
            machine: self._timed[key, run.architecture, machine]
            for run, _ in each
            for machine in [machine_of(run, key)]
        }
        timings = [value for pool in pools.values() for value in pool]
        return {
            "mean": number(statistics.fmean(statistics.median(pool) for pool in pools.values())),
            "sd": None,
            "n": len(timings),
            "min": number(min(timings)),
            "max": number(max(timings)),
            "each": [[run.seed, number(value)] for run, value in each],
            "flag": None,
        }

    def of_teacher(self, run: ComparedRun) -> dict[str, float]:
        """The costs of its teacher that a distillation tells, or that were measured."""
        measured = {} if self.measured is None else self.measured.costs.get(run.record.folder.path, {})
        known = {**run.record.facts, **measured}
        return _named(known, "teacher_")

    def of_all_teachers(self, run: ComparedRun) -> dict[str, float]:
        """The costs of all its teachers together, of a distillation with several or with several views."""
        return _named(run.record.facts, "teachers_")

    def flag(self, rows: Sequence[Row]) -> list[str]:
        """Flags values of the rows that were timed on another machine than most.

        Returns:
            A sentence for each cost of which some are flagged.
        """
        said = []
        for key in _TIMES:
            # How long a teacher trained is no measure for students.
            compared = [row for row in rows if key != "train_hours" or row.role == "student"]
            timed = {row.id: {machine_of(run, key) for run, _ in self._each(row, key)} for row in compared}
            machines = Counter(machine for found in timed.values() for machine in sorted(found))
            if len(machines) < 2 or self._is_measured(key):
                continue
            usual, _ = machines.most_common(1)[0]
            reasons: dict[str, list[str]] = {}
            for row in compared:
                if others := sorted(timed[row.id] - {usual}):
                    flag = (
                        f"timed on {_difference(others[0], usual, key)}, others on {_difference(usual, others[0], key)}"
                    )
                    row.values[key]["flag"] = flag
                    reasons.setdefault(flag, []).append(row.name)
            named = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
            way_out = "" if key == "train_hours" else "; `distill compare --measure` times all of them on this one"
            said.append(f"{COSTS[key].name} was taken on different machines ({named}){way_out}")
        return said

    def _each(self, row: Row, key: str) -> list[tuple[ComparedRun, float]]:
        if self._is_measured(key) and self.measured is not None:
            costs = self.measured.costs
            found = [(run, costs.get(run.record.folder.path, {}).get(key)) for run in row.runs]
        else:
            found = [(run, run.record.costs.get(key)) for run in row.runs]
        return [(run, value) for run, value in found if value is not None]

    def _is_measured(self, key: str) -> bool:
        return self.measured is not None and key in _MEASURED

    def _why_missing(self, row: Row, key: str) -> str:
        if not row.runs:
            return "the runs of its students do not tell; give its own run as well"
        if not any(run.record.finished for run in row.runs):
            return row.runs[0].way_to_finish
        if key == "size_mb":
            student = row.runs[0].record.folder.student
            return f"there is no {student}"
        if key == "gpu_ms":
            return "timed on no GPU"
        if self._is_measured(key):
            return "it could not be timed here"
        if key in _MEASURED:
            return "the run did not record it; `distill compare --measure` times it"
        return "the run did not record it"


def _named(known: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {key: cost for key in COSTS if (cost := known.get(prefix + key)) is not None}


def machine_of(run: ComparedRun, key: str) -> Machine:
    """The parts of a run's machine that its time `key` depends on."""
    machine = run.record.machine
    return tuple(str(machine.get(part, "unknown")) for part in _TIMES[key])


def _difference(machine: Machine, other: Machine, key: str) -> str:
    """What a machine has that another has not."""
    parts = zip(_TIMES[key], machine, other, strict=True)
    return ", ".join(_spoken(part, own) for part, own, theirs in parts if own != theirs)


def _spoken(part: str, value: str) -> str:
    if part == "threads":
        return f"{value} thread{'s' * (value != '1')}"
    return value.strip("[]").replace("'", "") or "no GPU"
