"""Numbers over seeds: mean, spread, and paired differences with their interval.

A value of the comparison is a mapping: `mean`, `sd` (sample standard deviation, None for one seed), `n`, `min`, `max`,
`each` (pairs of seed and number) and `flag` (why it cannot be compared, or None); or only `missing`, which says why
there is none and how to get it.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Value = dict[str, Any]
CONFIDENCE = 0.95


def number(value: float) -> float:
    """A number as files hold it: whole ones exactly, others with six significant digits."""
    short = value if value == int(value) else float(f"{round(value, 12):.6g}")  # what is left of 0.1 + 0.2 - 0.3 is 0
    return int(short) if short == int(short) else short


def fold(each: Sequence[tuple[int, float]]) -> Value:
    """The value over seeds.

    Args:
        each: Seed and number of each run, one at least.
    """
    numbers = [one for _, one in each]
    mean, sd = mean_and_sd(numbers)
    return {
        "mean": number(mean),
        "sd": None if sd is None else number(sd),
        "n": len(numbers),
        "min": number(min(numbers)),
        "max": number(max(numbers)),
        "each": [[seed, number(one)] for seed, one in each],
        "flag": None,
    }


def mean_and_sd(numbers: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1), which a single number has none of."""
    return statistics.fmean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else None


def missing(why: str) -> Value:
    """A value that is missing, with the reason."""
    return {"missing": why}


def known(value: Value | None) -> bool:
    """Whether a value is a number."""
    return value is not None and "mean" in value


def paired(own: Mapping[int, float], other: Mapping[int, float]) -> Value | None:
    """Differences of the seeds that both have, `own` minus `other`, folded.

    `low` and `high` are the ends of the t interval of their mean; None for one seed.

    Args:
        own: Numbers by seed.
        other: The same of what they are compared with.

    Returns:
        None without a seed in common.
    """
    common = [seed for seed in own if seed in other]
    if not common:
        return None
    differences = [own[seed] - other[seed] for seed in common]
    interval = t_interval(differences) if len(common) > 1 else (None, None)
    return fold(list(zip(common, differences, strict=True))) | dict(zip(("low", "high"), interval, strict=True))


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Ends of the interval that holds the mean with `CONFIDENCE`, by Student's t.

    Args:
        values: Two or more.
    """
    from scipy.special import stdtrit  # costs a while, and one seed needs none

    count = len(values)
    half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * statistics.stdev(values) / count**0.5
    mean = statistics.fmean(values)
    return number(mean - half), number(mean + half)
