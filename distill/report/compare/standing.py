"""Relations between rows: gains over the scratch baseline, the best of a column, frontiers, dominated rows.

Teachers are references: never best, never on a frontier. What was timed on another machine takes no part.
"""

import math
import shlex
from collections.abc import Sequence

from distill.evaluation.metrics import COSTS
from distill.report.compare.columns import GAIN, Column
from distill.report.compare.names import differing_keys, short
from distill.report.compare.rows import Row, settings_difference
from distill.report.compare.spread import Value, known, missing, paired

_COUNTING = 0.02  # by which counts of multiply-adds may differ between versions
_OF_USE = tuple(key for key in COSTS if key != "train_hours")  # costs of a student once it is trained


def baseline_of(row: Row, rows: Sequence[Row]) -> Row | None:
    """The scratch baseline of a row: same student and head from scratch, scored in the same way, nearest in recipe."""
    alike = [other for other in _from_scratch(row, rows) if not _network_difference(row, other)]
    found = [other for other in alike if not settings_difference(row.settings, other.settings)]
    return min(found, key=lambda other: len(differing_keys([row, other])), default=None)


def add_gain(row: Row, rows: Sequence[Row], main: Column) -> Row | None:
    """Gives a row its gain over its scratch baseline, or why there is none; returns the baseline of a gain."""
    if row.role != "student":
        row.values[GAIN] = missing(f"a {row.role} is a reference")
    elif row.init == "scratch":
        row.values[GAIN] = missing("it starts from random weights itself")
    elif (baseline := baseline_of(row, rows)) is None:
        row.values[GAIN] = missing(_way_to_baseline(row, rows))
    elif (gain := paired(row.scores(main.key), baseline.scores(main.key))) is None:
        row.values[GAIN] = missing(_why_no_pair(row, baseline, main))
    else:
        row.values[GAIN] = gain | {"scratch": baseline.id, "recipe_differs": False}
        if keys := differing_keys([row, baseline]):
            row.values[GAIN]["recipe_differs"] = True
            row.add(
                f"beside the initial weights, it differs from its scratch baseline in {', '.join(map(short, keys))}"
            )
        return baseline
    return None


def mark_best(rows: Sequence[Row], columns: Sequence[Column]) -> None:
    """Marks the best rows of each column in which values differ, to the digits that are shown."""
    for column in columns:
        known_of = {row.id: value for row in _students(rows) if (value := _comparable(row, column.key)) is not None}
        found = {name: round(value / column.scale, column.digits) for name, value in known_of.items()}
        if column.better and len(set(found.values())) > 1:
            best = max(found.values()) if column.better == "max" else min(found.values())
            for row in rows:
                if found.get(row.id) == best:
                    row.best.append(column.key)


def frontier(rows: Sequence[Row], main: Column, cost: str) -> list[str]:
    """Ids of the rows that no other equals at less cost or beats at the same, by rising cost."""
    points = [
        (spent, -_good(row, main), row.id)
        for row in _students(rows)
        if (spent := _comparable(row, cost)) is not None and known(row.values[main.key])
    ]
    return [
        name
        for spent, bad, name in sorted(points)
        if not any(s <= spent and b <= bad and (s, b) != (spent, bad) for s, b, _ in points)
    ]


def mark_dominated(rows: Sequence[Row], main: Column) -> None:
    """Tells each row which others are no worse in quality and in every known cost of use, and better in one.

    Costs count as equal to three significant digits, so that a few bytes or microseconds decide nothing.
    """
    points = {}
    for row in _students(rows):
        if known(row.values[main.key]):
            costs = {key: _comparable(row, key) for key in _OF_USE}
            points[row.id] = (_good(row, main), {k: float(f"{v:.3g}") for k, v in costs.items() if v is not None})
    for row in rows:
        if row.id in points:
            row.dominated_by = [name for name, point in points.items() if _dominates(point, points[row.id])]


def _dominates(one: tuple[float, dict[str, float]], other: tuple[float, dict[str, float]]) -> bool:
    pairs = [(-one[0], -other[0]), *((value, other[1][key]) for key, value in one[1].items() if key in other[1])]
    return len(pairs) > 1 and all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _from_scratch(row: Row, rows: Sequence[Row]) -> list[Row]:
    """Students like that of a row, under the same head, from random weights."""
    alike = [other for other in _students(rows) if (other.student, other.head) == (row.student, row.head)]
    return [other for other in alike if other.init == "scratch"]


def _network_difference(row: Row, other: Row) -> str:
    """How the student of a row from scratch is another network than a row's, though of the same name; else empty.

    Parameters and multiply-adds tell, as far as both runs recorded them: recipes may write one network in several ways.
    """
    own, others = row.runs[0].record.facts, other.runs[0].record.facts
    kinds = {"params": 0.0}
    if row.runs[0].image_size == other.runs[0].image_size:
        kinds["macs"] = _COUNTING
    known_of = [key for key in kinds if key in own and key in others]
    if all(math.isclose(own[key], others[key], rel_tol=kinds[key]) for key in known_of):
        return ""
    counts = []
    for key in known_of:
        cost = COSTS[key]
        here, there = (f"{facts[key] / cost.scale:.{cost.digits}f}" for facts in (own, others))
        counts.append(f"{there} {cost.unit} {cost.name} instead of {here}")
    keys = [short(key) for key in differing_keys([row, other]) if key.startswith("model.init_args.student.")]
    named = f"; {', '.join(keys)} differ{'s' if len(keys) == 1 else ''}" if keys else ""
    return ", ".join(counts) + named


def _students(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.role == "student"]


def _comparable(row: Row, key: str) -> float | None:
    value: Value = row.values.get(key, {})
    return None if value.get("flag") else value.get("mean")


def _good(row: Row, main: Column) -> float:
    mean: float = row.values[main.key]["mean"]
    return -mean if main.better == "min" else mean


def _way_to_baseline(row: Row, rows: Sequence[Row]) -> str:
    scratch = _from_scratch(row, rows)
    if alike := [other for other in scratch if not _network_difference(row, other)]:
        difference = settings_difference(row.settings, alike[0].settings)
        return f"its scratch baseline was scored differently: {difference}"
    recipe = shlex.quote(str(row.runs[0].record.folder.recipe))
    head = f" with {row.head}" if row.head else ""
    why = f"there is no scratch baseline of {row.student}{head} among the runs"
    if scratch:
        why = f"the {row.student}{head} from scratch is another network ({_network_difference(row, scratch[0])})"
    return f"{why}; fit one with `distill fit {recipe} --model.student.checkpoint null --run.dir FOLDER`"


def _why_no_pair(row: Row, baseline: Row, main: Column) -> str:
    for one in (row, baseline):
        if not one.scores(main.key):
            return one.values[main.key].get("missing", "it has no score")
    seeds = [", ".join(str(run.seed) for run in one.runs) for one in (row, baseline)]
    return f"no seed in common with its scratch baseline: {seeds[0]} and {seeds[1]}; fit both with the same seeds"
