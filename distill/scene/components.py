"""Detections of several tiles that are one object, and the one detection that is given for them."""

from collections.abc import Iterator
from functools import reduce

import numpy as np

from distill.data.tiling import Tile
from distill.patch import Patch
from distill.scene.detections import Detection
from distill.scene.merge_rules import MergeRules
from distill.scene.sightings import Sighting, around

# Pixels of the rectangle around an object that is joined from parts: its mask takes a byte of each, tracing it ten.
LARGEST = 2**25


class Component:
    """Detections that are one object.

    Args:
        sighting: The first of them.

    Attributes:
        members: All of them.
        frame: The rectangle that their masks fill.
    """

    def __init__(self, sighting: Sighting) -> None:
        self.members: list[Sighting] = []
        self.frame = sighting.frame
        self._of: dict[Tile, list[Sighting]] = {}
        self.add(sighting)

    def add(self, sighting: Sighting) -> None:
        """Adds a detection."""
        self.members.append(sighting)
        self.frame = around(self.frame, sighting.frame)
        self._of.setdefault(sighting.tile, []).append(sighting)

    def of(self, tile: Tile) -> list[Sighting]:
        """The detections from a tile."""
        return self._of.get(tile, [])


class Components:
    """Union-find over the detections whose objects are not final.

    A component never holds two detections that their tile saw as two objects: two whole ones, or two of which one lies
    inside the other. Two truncated ones beside each other may be one object that a border has cut in pieces.
    No component grows over a rectangle of more than `LARGEST` pixels, whose mask would not fit into memory: a river
    across a whole scene is several objects.

    Args:
        rules: What counts as inside.
    """

    def __init__(self, rules: MergeRules) -> None:
        self._rules = rules
        self._of: dict[Sighting, Component] = {}

    def add(self, sighting: Sighting) -> None:
        """Adds a detection as a component of its own."""
        self._of[sighting] = Component(sighting)

    def unite(self, first: Sighting, second: Sighting) -> None:
        """Joins the components of two detections, unless a tile or the size of the result forbids it."""
        one, other = self._of[first], self._of[second]
        if len(one.members) < len(other.members):
            one, other = other, one
        if one is other:
            return
        top, left, bottom, right = around(one.frame, other.frame)
        if (bottom - top) * (right - left) > LARGEST or any(
            self._two_objects(a, b) for a in other.members for b in one.of(a.tile)
        ):
            return
        for member in other.members:
            one.add(member)
            self._of[member] = one

    def _two_objects(self, one: Sighting, other: Sighting) -> bool:
        """Whether a tile saw two of its detections as two objects."""
        if not one.cut and not other.cut:
            return True
        return one.shared(other, one.frame) >= self._rules.nested * min(one.area, other.area)

    def pop(self, above: int) -> Iterator[Component]:
        """Removes and returns the components that end above a pixel row."""
        closed = {id(component): component for component in self._of.values() if component.frame[2] <= above}
        for component in closed.values():
            for member in component.members:
                del self._of[member]
            yield component


def resolve(component: Component, rules: MergeRules) -> Detection | None:
    """The detection of a component's object; None if no tile that saw it owns enough of it.

    The best whole detection, which is the one farthest from the borders of its tile: masks near a border are worse,
    and a union of several masks would be fatter than each. Of an object that is whole in no tile, the union of all
    masks, with the mean of their scores weighted by their areas. Its box is that of its pixels, because no model has
    given one for it.
    """
    whole = [member for member in component.members if not member.cut]
    if whole:
        return max(whole, key=lambda one: (one.clearance, one.detection.score, one.key)).detection
    members = sorted(component.members, key=lambda one: one.key)
    mask = _union(members)
    if sum(member.owned for member in members) < rules.owned * np.count_nonzero(mask.pixels):
        return None
    if len(members) == 1:
        return members[0].detection
    largest = max(members, key=lambda one: (one.area, one.key))
    height, width = mask.pixels.shape
    weighted = sum(member.detection.score * member.area for member in members)
    return Detection(
        tile=largest.detection.tile,
        box=(float(mask.left), float(mask.top), float(mask.left + width), float(mask.top + height)),
        score=weighted / sum(member.area for member in members),
        label=largest.detection.label,
        mask=mask,
        truncated=_truncated(members),
        parts=len(members),
    )


def _union(members: list[Sighting]) -> Patch:
    """The pixels of all masks."""
    top, left, bottom, right = reduce(around, (member.frame for member in members))
    pixels = np.zeros((bottom - top, right - left), np.uint8)
    for member in members:
        y1, x1, y2, x2 = member.frame
        pixels[y1 - top : y2 - top, x1 - left : x2 - left] |= member.detection.mask.pixels
    return Patch(top, left, pixels)


def _truncated(members: list[Sighting]) -> tuple[bool, bool, bool, bool]:
    """The sides on which the outermost detections are truncated."""
    far = [(min if side < 2 else max)(member.frame[side] for member in members) for side in range(4)]
    cut = [any(one.detection.truncated[side] for one in members if one.frame[side] == far[side]) for side in range(4)]
    return cut[0], cut[1], cut[2], cut[3]
