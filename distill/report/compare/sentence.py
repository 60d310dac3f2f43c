"""One sentence about a section, by rule: the best under a latency budget, its gain, and what the teacher reaches."""

import math
import statistics
from collections.abc import Sequence

from distill.report.compare.columns import GAIN, Column, text
from distill.report.compare.rows import Row
from distill.report.compare.spread import Value, known

_FEW = 3  # rows up to which all compete, whatever their latency


def sentence(rows: Sequence[Row], main: Column) -> str:
    """The sentence.

    The budget is the median latency of the students, rounded up to 1, 2 or 5 times a power of ten; there is none for
    up to three students, and none where latencies are missing or come from different machines.

    Args:
        rows: The rows of a section, with their values.
        main: The main quality.
    """
    scored = [row for row in rows if row.role == "student" and known(row.values[main.key])]
    if not scored:
        return "No student has been scored yet."
    if main.better == "max" and len(scored) > 1 and not any(_shown(row, main) for row in scored):
        return f"None of {len(scored)} students is best: {main.name} is {text(main.as_json(), 0)}{_unit(main)} for all."
    times = [row.values.get("cpu_ms", {}) for row in scored]
    fair = all(known(time) and not time["flag"] for time in times)
    among, budget = scored, ""
    if fair and len(scored) > _FEW:
        limit = _rounded_up(statistics.median(time["mean"] for time in times))
        among = [row for row in scored if row.values["cpu_ms"]["mean"] <= limit]
        budget = f"Under {limit:g} ms on the CPU, "
    sign = -1 if main.better == "min" else 1
    best = max(among, key=lambda row: sign * row.values[main.key]["mean"])
    return f"{budget}{best.name} {_reaches(best, main, len(among))}{_gain(best, main)}{_teacher(best, rows, main)}."


def _reaches(best: Row, main: Column, count: int) -> str:
    trivial = ", where 1 is the image-independent baseline" if main.key == "l1_ratio" else ""
    reached = f"{_spoken(best.values[main.key], main)}{trivial}"
    if count == 1:
        return f"reaches {main.name} {reached}"
    return f"has the {'lowest' if main.better == 'min' else 'highest'} {main.name}, {reached}"


def _gain(best: Row, main: Column) -> str:
    gain = best.values.get(GAIN, {})
    if not known(gain):
        return ""
    column, mean = main.as_json(), gain["mean"]
    points = " points" if main.unit == "%" else ""
    words = f"{points} {'more' if mean >= 0 else 'less'}"
    spread = " (one seed)"
    if gain["low"] is not None:
        low, high = (text(column, end) for end in (gain["low"], gain["high"]))
        spread = f" ({gain['n']} seeds, 95 % interval {low} to {high})"
    other = " with another recipe" if gain["recipe_differs"] else ""
    return f"; {text(column, abs(mean))}{words} than the same student from scratch{other}{spread}"


def _teacher(best: Row, rows: Sequence[Row], main: Column) -> str:
    teachers = [row for row in rows if row.role == "teacher"]
    scored = [row for row in teachers if known(row.values[main.key])]
    if scored:
        teacher = max(scored, key=lambda row: row.values[main.key]["mean"])
        said = f"; the teacher {teacher.student} reaches {_spoken(teacher.values[main.key], main)}"
    elif (found := next((row for row in teachers if row.student == best.teacher), None)) is not None:
        teacher, said = found, f"; its teacher is {found.student}"
    else:
        return f"; its teacher is {best.teacher}" if main.key == "l1_ratio" and best.teacher else ""
    own, other = best.values.get("macs", {}), teacher.values.get("macs", {})
    if known(own) and known(other) and own["mean"]:
        said += f" with {other['mean'] / own['mean']:.3g} times the multiply-adds"
    return said


def _spoken(value: Value, main: Column) -> str:
    column = main.as_json()
    spread = f" ± {text(column, value['sd'])}" if value["sd"] is not None else ""
    return f"{text(column, value['mean'])}{spread}{_unit(main)}"


def _shown(row: Row, main: Column) -> float:
    """The main quality to the digits that people see."""
    return float(round(row.values[main.key]["mean"] / main.scale, main.digits))


def _unit(main: Column) -> str:
    return f" {main.unit}" if main.unit else ""


def _rounded_up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power * (1 + 1e-9))
