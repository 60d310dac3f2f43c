"""Every metric that is logged of a validation or a test: its name, unit, better direction and meaning.

Logging, progress, tables, cards and dashboards read this table, and docs/evaluation.md prints it.

A full name is `<split>/<metric>` or `<split>/<metric>/<class>`: `val/mIoU`, `test/mask/AP/ship`. That of a probe is
`<split>/probe/<name of the probe>/<metric>`, which METRICS has without the name of the probe; that of a further target
of a distillation `<split>/<target>/<metric>`: `val/block_3/l1_ratio`.
"""

from dataclasses import dataclass
from typing import Literal

KINDS = ("box", "mask", "boundary")  # of average precision
PROBE = "probe"  # begins the names of scores that probing frozen features gives: `probe/<name of the probe>/<metric>`
_PROBED = {
    "linear": "a linear probe on frozen features of objects, images or patches",
    "few_shot": "the same with few labels of each class, mean over draws",
    "knn": "nearest neighbours among the same features",
    "tokens": "a linear probe on frozen features of single tokens",
}
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Metric:
    """How a metric is read and shown.

    Attributes:
        meaning: What it says, in a phrase.
        better: "max" or "min": which values are better; None where that is not said.
        unit: "%" for fractions that people are shown in percent, else "".
        digits: Decimals that people are shown, in the unit.
    """

    meaning: str
    better: Literal["max", "min"] | None = None
    unit: Literal["%", ""] = ""
    digits: int = 4


def _percentage(meaning: str) -> Metric:
    return Metric(meaning, "max", "%", 1)


def _average_precisions(kind: str, overlap: str) -> dict[str, Metric]:
    named = {
        "AP": f"average precision, mean over {overlap} IoU 0.50 to 0.95",
        "AP50": f"average precision at {overlap} IoU 0.50",
        "AP75": f"average precision at {overlap} IoU 0.75",
        "AP_small": "AP of objects below 32 x 32 px",
        "AP_medium": "AP of objects from 32 x 32 to 96 x 96 px",
        "AP_large": "AP of objects above 96 x 96 px",
        "AR": f"highest recall, mean over {overlap} IoU 0.50 to 0.95",
    }
    return {f"{kind}/{name}": _percentage(meaning) for name, meaning in named.items()}


METRICS: dict[str, Metric] = {
    **_average_precisions("box", "box"),
    **_average_precisions("mask", "mask"),
    **_average_precisions("boundary", "boundary"),
    "mIoU": _percentage("mean of IoU over classes"),
    "macro_F1": _percentage("mean of F1 over classes"),
    "accuracy": _percentage("share of the labelled pixels that are right"),
    "IoU": _percentage("intersection over union of a class"),
    "F1": _percentage("harmonic mean of precision and recall of a class"),
    "l1": Metric("mean absolute difference from the target", "min"),
    "cosine": Metric("mean cosine between the student's and the target's channel vectors", "max"),
    "trivial_l1": Metric("`l1` of the image-independent baseline on the same images"),
    "l1_ratio": Metric("`l1` over `trivial_l1`; 1 for a student that ignores the image", "min"),
    "mse": Metric("mean squared error of the pixels of masked patches, normalised by patch", "min"),
    **{f"{PROBE}/{name}": _percentage(f"balanced accuracy of {meaning}") for name, meaning in _PROBED.items()},
}
_OF_TARGETS = ("l1", "cosine", "trivial_l1", "l1_ratio")  # also `<split>/<target>/<metric>` of a further target
_OTHER = Metric("")


@dataclass(frozen=True)
class Cost:
    """A cost of a model, of which less is better.

    Attributes:
        name: The heading of its column.
        meaning: What it says, in a phrase.
        unit: What people are shown.
        scale: How many of the stored units one of these has.
        digits: Decimals that people are shown, in the unit.
    """

    name: str
    meaning: str
    unit: str
    scale: float = 1.0
    digits: int = 1


# By the names that summary.json has; of the student for one image of the recipe's size, if nothing else is said.
COSTS: dict[str, Cost] = {
    "params": Cost("parameters", "parameters of the student", "M", 1e6, 2),
    "macs": Cost("multiply-adds", "multiply-adds that one pass executes", "G", 1e9, 2),
    "cpu_ms": Cost("CPU latency", "median time of one pass on the CPU", "ms"),
    "gpu_ms": Cost("GPU latency", "median time of one pass on the GPU", "ms"),
    "memory_mb": Cost("peak memory", "weights and the most that one pass on the CPU holds at once", "MB", digits=0),
    "size_mb": Cost("file size", "size of student.safetensors", "MB"),
    "train_hours": Cost("training time", "wall-clock time of the training, validations included", "h", digits=2),
}


def bare(name: str) -> str:
    """A metric's name without the split that it was taken on: `box/AP` of `test/box/AP`."""
    split, _, rest = name.partition("/")
    return rest if split in _SPLITS else name


def is_metric(name: str) -> bool:
    """Whether this is the name of a metric, which begins with the split that it was taken on, and not of a fact."""
    split, separator, _ = name.partition("/")
    return bool(separator) and split in _SPLITS


def is_probe(name: str) -> bool:
    """Whether this is the name, with or without split, of a score of probed features."""
    return bare(name).startswith(f"{PROBE}/")


def metric_of(name: str) -> Metric:
    """The metric of a name with or without split and class; one without direction and unit where it is not known."""
    parts = bare(name).split("/")
    if parts[0] == PROBE:
        parts = [PROBE, parts[-1]]
    known = (METRICS.get("/".join(parts[:length])) for length in range(len(parts), 0, -1))
    own = METRICS[parts[-1]] if len(parts) == 2 and parts[-1] in _OF_TARGETS else _OTHER
    return next((metric for metric in known if metric is not None), own)


def markdown_table() -> str:
    """The table for docs/evaluation.md."""
    rows = [("metric", "meaning", "unit", "better"), ("---",) * 4]
    words = {"max": "higher", "min": "lower", None: ""}
    rows += [(f"`{name}`", m.meaning, m.unit, words[m.better]) for name, m in METRICS.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"
