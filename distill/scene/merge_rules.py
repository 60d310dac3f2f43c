"""When detections of two tiles are one object: the thresholds of the merge, each with its reason."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MergeRules:
    """Thresholds, tuned on the oracle of `benchmarks/scene_merge.py` and frozen.

    Attributes:
        border: Pixels. A detection that ends so near an interior border of its tile counts as truncated there, because
            masks and boxes of cut objects often stop short of it. Too many cost little: the neighbour saw them whole.
            At most a quarter of the overlap.
        early: Share of its side by which a detection may end before a border of its tile, if one of another tile shows
            that the object goes on there: outlines of large objects are coarse. What ends earlier is another object.
        match: Least restricted IoU of two detections of one object. Outlines that are off by 1 px in either tile leave
            0.3 to 0.4 of an object of 8 px; roofs that touch share 0.18 at most.
        covered: Share of a fragment, in the overlap, that a detection of the other tile must cover to absorb it.
        nested: Share of a detection that another one of its tile must cover to count as around it.
        owned: Least share of an object's pixels that lie in the cores of the tiles that saw them, where all its
            detections are truncated. An object that was joined whole has 1, a strip along a border 0.
    """

    border: int = 8
    early: float = 0.1
    match: float = 0.25
    covered: float = 0.8
    nested: float = 0.5
    owned: float = 0.5
