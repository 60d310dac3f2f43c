"""How numbers are shown to people: scores with their unit, undefined scores, times and counts.

Files for programs (`test.json`, `metrics.csv`, `test_classes.csv`) hold the evaluation's own fractions instead.
"""

import math

from distill.evaluation.metrics import metric_of

UNDEFINED = "n/a"  # pandas reads it as NaN, too


def percent(value: float | None) -> str:
    """A fraction in percent with one decimal, without the sign."""
    return UNDEFINED if value is None or math.isnan(value) else f"{100 * value:.1f}"


def shown(name: str, value: float | None) -> str:
    """The value of a metric with its unit: `9.1 %` for an average precision of 0.0912, `0.8521` for a ratio.

    Args:
        name: The metric, with or without split and class.
        value: As it was logged; None or NaN where there is nothing to measure.
    """
    if value is None or math.isnan(value):
        return UNDEFINED
    metric = metric_of(name)
    return f"{100 * value:.{metric.digits}f} %" if metric.unit == "%" else f"{value:.{metric.digits}f}"


def duration(seconds: float) -> str:
    """A time in the two largest units that matter: `45 s`, `12 min`, `3 h 20 min`, `14 days 3 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h" if hours else f"{days} days"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 image`, `9,876 images`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
