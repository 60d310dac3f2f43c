"""Which detections of two overlapping tiles are one object.

Both tiles saw all of their overlap R. So detections a and b of one object agree there, however the tiles' borders cut
them elsewhere: the restricted IoU |a ∩ b| / |(a ∪ b) ∩ R| is near 1. The plain IoU falls with what one tile does not
see, and intersection over the smaller area joins a small object with the large one around it.

Axes: A and B detections of the two tiles.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.scene.merge_rules import MergeRules
from distill.scene.sightings import Rectangle, Sighting, frame_of, meet

Shared = dict[tuple[Sighting, Sighting], int]  # pixels of the overlap that both have


@dataclass(frozen=True)
class Match:
    """Two detections of one object.

    Attributes:
        first: Of one tile.
        second: Of the other.
        absorbed: Whether one of them is a fragment that the other one covers, rather than its like.
        strength: Restricted IoU, or the share of the fragment that is covered.
        common: Pixels of the overlap that both have.
    """

    first: Sighting
    second: Sighting
    absorbed: bool
    strength: float
    common: int

    @property
    def rank(self) -> tuple[object, ...]:
        """A total order: likes before fragments, strong before weak, and of these large before small."""
        return self.absorbed, -self.strength, -self.common, self.first.key, self.second.key


def match(first: Sequence[Sighting], second: Sequence[Sighting], rules: MergeRules) -> list[Match]:
    """The detections of two tiles that are one object; each is in one pair of likes at most.

    A fragment without its like joins the detection that covers it in the overlap: a border may cut a U or a ring into
    pieces of which the other tile sees one.

    Args:
        first: Of one tile.
        second: Of another tile.
        rules: The thresholds.
    """
    if not first or not second:
        return []
    overlap = meet(frame_of(first[0].tile), frame_of(second[0].tile))
    if overlap is None:
        return []
    shared = {pair: pair[0].shared(pair[1], overlap) for pair in _near(first, second, overlap)}
    shared = {pair: common for pair, common in shared.items() if common}
    sizes = {sighting: sighting.count(overlap) for pair in shared for sighting in pair}
    likes = _likes(shared, sizes, rules)
    return [*likes, *_fragments(shared, sizes, likes, rules)]


def _likes(shared: Shared, sizes: dict[Sighting, int], rules: MergeRules) -> list[Match]:
    """One-to-one, greedy by falling restricted IoU."""
    found = []
    for (a, b), common in shared.items():
        union = sizes[a] + sizes[b] - common
        if common >= rules.match * union and None not in (_hidden(a, b, rules), _hidden(b, a, rules)):
            found.append(Match(a, b, False, common / union, common))
    taken: set[Sighting] = set()
    likes = []
    for pair in sorted(found, key=lambda pair: pair.rank):
        if pair.first not in taken and pair.second not in taken:
            taken |= {pair.first, pair.second}
            likes.append(pair)
    for pair in likes:
        for one, other in ((pair.first, pair.second), (pair.second, pair.first)):
            one.truncate(_hidden(one, other, rules) or [])
    return likes


def _fragments(shared: Shared, sizes: dict[Sighting, int], likes: Sequence[Match], rules: MergeRules) -> list[Match]:
    """Truncated detections without their like, each with the detection that covers it best."""
    like = {one for pair in likes for one in (pair.first, pair.second)}
    best: dict[Sighting, Match] = {}
    for pair, common in shared.items():
        for fragment in pair:
            if fragment in like or not fragment.cut or common < rules.covered * sizes[fragment]:
                continue
            if fragment.owned < rules.owned * fragment.area:  # a strip along a border, which is dropped anyway
                continue
            found = Match(*pair, True, common / sizes[fragment], common)
            if fragment not in best or found.rank < best[fragment].rank:
                best[fragment] = found
    return list(best.values())


def _hidden(one: Sighting, other: Sighting, rules: MergeRules) -> list[int] | None:
    """Where a whole detection is truncated after all, if the other one is of the same object; None if it cannot be.

    An object that a tile saw whole does not reach out of the tile. Where the other detection does, the first one must
    at least come near that border: it has ended too early.
    """
    if one.cut:
        return []
    bounds = frame_of(one.tile)
    hidden = []
    for side in range(4):
        towards = 1 if side >= 2 else -1
        if (other.frame[side] - bounds[side]) * towards > rules.border:
            if abs(bounds[side] - one.frame[side]) > rules.early * (one.frame[side % 2 + 2] - one.frame[side % 2]):
                return None
            hidden.append(side)
    return hidden


def _near(first: Sequence[Sighting], second: Sequence[Sighting], overlap: Rectangle) -> list[tuple[Sighting, Sighting]]:
    """Pairs of one class whose frames meet inside the overlap."""
    lows, highs = zip(*(_clipped(sightings, overlap) for sightings in (first, second)), strict=True)
    low = np.maximum(lows[0][:, None], lows[1][None])
    high = np.minimum(highs[0][:, None], highs[1][None])
    labels = [np.array([sighting.detection.label for sighting in sightings]) for sightings in (first, second)]
    meeting = (low < high).all(-1) & (labels[0][:, None] == labels[1][None])
    return [(first[a], second[b]) for a, b in np.argwhere(meeting)]


def _clipped(sightings: Sequence[Sighting], overlap: Rectangle) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Top left and bottom right corners (A, 2) of the frames inside the overlap."""
    frames = np.array([sighting.frame for sighting in sightings], np.int64)
    return np.maximum(frames[:, :2], overlap[:2]), np.minimum(frames[:, 2:], overlap[2:])
