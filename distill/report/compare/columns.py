"""The columns of a section: quality, the gain over the scratch baseline, and costs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from distill.evaluation.metrics import COSTS, METRICS, Metric, is_probe, metric_of

GAIN = "gain"
# The first metrics of a table, the main one before all.
_USUAL = {
    "instances": ("mask/AP", "box/AP", "mask/AP50", "box/AP50", "boundary/AP"),
    "segmentation": ("mIoU", "macro_F1", "accuracy"),
    "distillation": ("l1_ratio", "cosine", "l1"),
}
_SHOWN = 4  # metrics that are shown; others can be picked on the page


@dataclass(frozen=True)
class Column:
    """A column; numbers are stored in fractions and counts, and people see them divided by `scale`.

    Attributes:
        key: The metric without its split, `GAIN`, or a cost.
        name: Its heading.
        meaning: What it says, in a phrase.
        unit: What people are shown.
        scale: How many of the stored units one of these has.
        digits: Decimals that people are shown.
        better: "max", "min", or None where that is not said.
        group: "quality", "gain" or "cost".
        shown: Whether it is shown unless somebody hides it.
    """

    key: str
    name: str
    meaning: str
    unit: str
    scale: float
    digits: int
    better: str | None
    group: str
    shown: bool = True

    def as_json(self) -> dict[str, Any]:
        """The column as compare.json has it."""
        return dict(vars(self))


def quality_columns(task: str, found: Iterable[str]) -> list[Column]:
    """The columns of quality, the main one first.

    Args:
        task: The task of the section.
        found: Names of all scores of the section, without their split.
    """
    names = dict.fromkeys(found)
    usual = [name for name in _USUAL.get(task, ()) if name in names] or list(_USUAL.get(task, ()))[:1]
    others = [name for name in METRICS if name in names and name not in usual]
    if not usual:  # a task of the user's own: what can be compared comes first
        others += [name for name in names if name not in METRICS and "/" not in name]
        others.sort(key=lambda name: metric_of(name).better is None)
    keys = [*usual, *others][:_SHOWN] or ["score"]
    probes = [name for name in names if is_probe(name)]
    hidden = [name for name in [*usual, *others] if name not in (*keys, *probes)]
    return [_quality(key, True) for key in (*keys, *probes)] + [_quality(key, False) for key in hidden]


def gain_column(main: Column) -> Column:
    """The column of differences to the scratch baseline."""
    meaning = f"{main.name} beyond the scratch baseline's, paired by seed, with the 95 % interval of its mean"
    return Column(GAIN, "gain over scratch", meaning, main.unit, main.scale, main.digits, main.better, "gain")


def cost_columns(found: Iterable[str]) -> list[Column]:
    """The columns of those costs that are known of any row, in the order of `COSTS`."""
    names = set(found)
    return [
        Column(key, cost.name, cost.meaning, cost.unit, cost.scale, cost.digits, "min", "cost")
        for key, cost in COSTS.items()
        if key in names
    ]


def quality_name(key: str) -> str:
    """The displayed name of a metric: "mask AP" for `mask/AP`."""
    return key.replace("/", " ").replace("_", " ")


def scale_of(metric: Metric) -> float:
    """How many of the stored units one of the shown ones has."""
    return 0.01 if metric.unit == "%" else 1.0


def text(column: Mapping[str, Any], value: float, signed: bool = False) -> str:
    """A number of a column as people see it, without its unit.

    Args:
        column: The column as compare.json has it.
        value: In the stored unit.
        signed: Whether a plus is written.
    """
    return f"{value / column['scale']:{'+' if signed else ''},.{column['digits']}f}"


def _quality(key: str, shown: bool) -> Column:
    metric = metric_of(key)
    meaning = metric.meaning or key
    scale = scale_of(metric)
    return Column(key, quality_name(key), meaning, metric.unit, scale, metric.digits, metric.better, "quality", shown)
