"""Parses the name of a metric: the quantity, the kind of overlap, and the class.

Names are `split/measure`, such as `val/l1`; `split/kind/measure[/class]` of instances, such as `test/mask/AP/ship`; and
`split/measure/class` of pixels, such as `test/IoU/water`; `split/probe/name/measure` of probes. Names of classes may
hold slashes.
"""

from typing import NamedTuple

from distill.evaluation.metrics import KINDS, PROBE, bare


class MetricName(NamedTuple):
    """A metric without the split that it was taken on.

    Attributes:
        kind: "box", "mask", "boundary", or "probe" and its name; empty for what has no kinds.
        measure: What is measured, such as "AP" or "mIoU".
        of_class: The class; empty for a mean over all.
    """

    kind: str
    measure: str
    of_class: str

    @classmethod
    def parse(cls, name: str) -> "MetricName":
        """Reads a name with or without its split."""
        first, _, rest = bare(name).partition("/")
        if first == PROBE:
            probe, _, measure = rest.partition("/")
            return cls(f"{PROBE} {probe}", measure, "")
        if first not in KINDS:
            return cls("", first, rest)
        measure, _, of_class = rest.partition("/")
        return cls(first, measure, of_class)
