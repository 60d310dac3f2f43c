"""Joins objects that several tiles have found.

Source: restricted IoU as in dask-image's labels across blocks (pull request 409); the rules about truncated detections
are this project's. `benchmarks/scene_merge.py` compares them with those of other libraries.
"""

import dataclasses
from collections.abc import Iterable

from distill.data.tiling import Tile, TilePlan
from distill.scene.components import Components, resolve
from distill.scene.detections import Detection, TileInstances
from distill.scene.matching import match
from distill.scene.merge_rules import MergeRules
from distill.scene.sightings import Lifting, Sighting

__all__ = ["CrossTileMerge", "MergeRules"]


class CrossTileMerge:
    """Joins the detections of overlapping tiles, one row of tiles after the other.

    An object is final once it ends above the next row of tiles. Until then its masks are in memory, and no longer. The
    result is the same for any order of the detections of a tile and of the tiles of a row.

    1. Detections of one class in two tiles are one object where their restricted IoU is high
       (`distill.scene.matching`). All tiles that overlap are compared, diagonal neighbours too.
    2. What is one object by such pairs is one object, unless a tile saw two objects there: two whole ones, or one
       inside the other (`distill.scene.components`).
    3. Of an object that a tile saw whole, the best whole detection is given, else the union of all detections.
    4. An object that all its tiles saw truncated is dropped where these tiles own less than half of it: a neighbour saw
       it better and found another object there, or none.

    Detections that are not truncated are never dropped: an object may lie inside another, and what a tile holds twice
    is the model's to suppress. Tiles that do not overlap are not joined.

    Args:
        plan: How the scene is cut.
        rules: Thresholds.
    """

    def __init__(self, plan: TilePlan, rules: MergeRules = MergeRules()) -> None:  # noqa: B008
        rules = dataclasses.replace(rules, border=min(rules.border, plan.overlap // 4))
        self._plan = plan
        self._rules = rules
        self._lifting = Lifting(plan, rules.border)
        self._open: dict[Tile, list[Sighting]] = {}  # detections that later tiles may see, too
        self._components = Components(rules)
        self._next = 0

    def add_row(self, row: int, tiles: Iterable[tuple[Tile, TileInstances]]) -> list[Detection]:
        """Detections of the next row of tiles.

        Args:
            row: Its number; rows come in order.
            tiles: Its tiles and what was found in each. Tiles without data may be left out.

        Returns:
            The objects that became final, by tile and falling score.

        Raises:
            ValueError: The row is not the next one.
        """
        if row != self._next:
            raise ValueError(f"row {row} of tiles was given; row {self._next} is next")
        self._next += 1
        matches = []
        for tile, found in sorted(tiles, key=lambda pair: pair[0]):
            sightings = self._lifting.sightings(tile, found)
            for sighting in sightings:
                self._components.add(sighting)
            for earlier in self._open.values():
                matches += match(earlier, sightings, self._rules)
            self._open[tile] = sightings
        for pair in sorted(matches, key=lambda pair: pair.rank):
            self._components.unite(pair.first, pair.second)
        return self._close()

    def finish(self) -> list[Detection]:
        """The objects that are left, once all rows are in; sorted as above."""
        self._next = len(self._plan.tops)
        return self._close()

    def _close(self) -> list[Detection]:
        """Give what ends above the next row of tiles."""
        last = self._next >= len(self._plan.tops)
        above = self._plan.height if last else self._plan.tops[self._next]
        final = [resolve(component, self._rules) for component in self._components.pop(above)]
        reaching = {tile: [one for one in seen if one.frame[2] > above] for tile, seen in self._open.items()}
        self._open = {tile: seen for tile, seen in reaching.items() if seen}
        return sorted((one for one in final if one is not None), key=_order)


def _order(detection: Detection) -> tuple[object, ...]:
    mask = detection.mask
    return (
        *(detection.tile, -detection.score, detection.label, detection.box),
        *(mask.top, mask.left, mask.pixels.shape, mask.pixels.tobytes()),
    )
