"""Scenes of which every object is known, and what a flawless detector finds in their tiles.

The detector errs in one way only: the outline of each detection is off by up to `jitter` pixels, another way in each
tile. An object that a tile's border cuts is found as what is left of it in that tile, each connected piece apart.

`make_objects` draws objects of 8 to 600 px, most of them near others: blocks of roofs that touch, objects on the
corners where four tiles meet, courtyards, L and U shapes, objects inside objects of the same class, and a few that are
longer than the overlap or than a tile. Objects never share a pixel unless one lies inside the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from distill.data.tiling import Tile, TilePlan
from distill.patch import Patch
from distill.scene.detections import TileInstances

Mask = NDArray[np.uint8]

SMALLEST_PIECE = 4  # pixels, below which a detector finds nothing
DENSE, NESTED, HUGE, CORNERS = 0.4, 0.1, 0.005, 0.02  # shares of all objects
TRIES = 60  # places that an object is tried at


@dataclass
class Drawing:
    """A scene under construction.

    Attributes:
        side: Of the scene in pixels.
        objects: In pixels of the scene.
        taken: How many objects each pixel belongs to, (side, side).
    """

    side: int
    rng: np.random.Generator
    objects: list[Patch] = field(default_factory=list)
    taken: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        self.taken = np.zeros((self.side, self.side), np.uint8)

    def put(self, mask: Mask, top: int, left: int, depth: int = 0) -> bool:
        """Add an object where all pixels belong to `depth` objects and it fits into the scene."""
        height, width = mask.shape
        if min(top, left) < 0 or max(top + height, left + width) > self.side:
            return False
        under = self.taken[top : top + height, left : left + width]
        if (under[mask > 0] != depth).any():
            return False
        under += mask
        self.objects.append(Patch(top, left, mask))
        return True

    def put_anywhere(self, mask: Mask) -> bool:
        """Add an object at one of some random places."""
        room = self.side - np.array(mask.shape)
        return (room >= 0).all() and any(self.put(mask, *self.rng.integers(0, room + 1)) for _ in range(TRIES))

    def put_near(self, mask: Mask, point: tuple[int, int], spread: int) -> bool:
        """Add an object whose centre lies within `spread` pixels of a point."""
        corner = np.array(point) - np.array(mask.shape) // 2
        return any(self.put(mask, *(corner + self.rng.integers(-spread, spread + 1, 2))) for _ in range(TRIES))


def make_objects(plan: TilePlan, count: int, seed: int = 0) -> list[Patch]:
    """Objects of a square scene, as many as asked for.

    Args:
        plan: Corners of its tiles and seams get objects of their own.
        count: How many.
        seed: Of all random choices.
    """
    rng = np.random.default_rng(seed)
    scene = Drawing(plan.height, rng)
    for number in range(max(4, round(count * HUGE))):
        scene.put_anywhere(huge(scene.side, number, rng))
    corners = [(top + plan.overlap // 2, left + plan.overlap // 2) for top in plan.tops[1:] for left in plan.lefts[1:]]
    for number in range(round(count * CORNERS)):
        across = bent(log_uniform(rng, 2 * plan.overlap, 4 * plan.overlap), rng)  # its arms may be longer than overlaps
        mask = across if number % 4 == 0 else shape(log_uniform(rng, 20, 400), rng)
        scene.put_near(mask, corners[number % len(corners)], plan.overlap // 2)
    blocks = len(scene.objects) + round(count * DENSE)
    while len(scene.objects) < blocks:
        seam = int(rng.choice(plan.lefts)), int(rng.integers(scene.side))
        block(scene, seam if rng.random() < 0.5 else seam[::-1], blocks - len(scene.objects))
    while len(scene.objects) < count - round(count * NESTED):
        largest = 600 if rng.random() < 0.06 else 200
        scene.put_anywhere(shape(log_uniform(rng, 8, largest), rng))
    hosts = [patch for patch in scene.objects if min(patch.pixels.shape) >= 32]
    longest = np.array([max(patch.pixels.shape) for patch in hosts])
    while len(scene.objects) < count:
        host = hosts[rng.choice(len(hosts), p=longest / longest.sum())]
        sides = np.array(host.pixels.shape)
        inner = shape(min(log_uniform(rng, 8, 300), int(sides.min() * 0.6)), rng)
        for _ in range(TRIES):
            row, column = (int(start) for start in rng.integers(0, sides - inner.shape + 1))
            under = host.pixels[row : row + inner.shape[0], column : column + inner.shape[1]]
            if (under >= inner).all() and scene.put(inner, host.top + row, host.left + column, depth=1):
                break
    return scene.objects


def log_uniform(rng: np.random.Generator, low: float, high: float) -> int:
    """As many between 8 and 16 as between 16 and 32."""
    return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))


def block(scene: Drawing, centre: tuple[int, int], most: int) -> None:
    """Roofs side by side, without a pixel between them."""
    rng = scene.rng
    columns, rows = (int(number) for number in rng.integers(2, 7, 2))
    widths, heights = rng.integers(8, 42, columns), rng.integers(8, 42, rows)
    top, left = np.array(centre) - (int(heights.sum()) // 2, int(widths.sum()) // 2)
    for row, height in enumerate(heights):
        for column, width in enumerate(widths):
            if row * columns + column < most:
                scene.put(np.ones((height, width), np.uint8), top + heights[:row].sum(), left + widths[:column].sum())


def shape(longest: int, rng: np.random.Generator) -> Mask:
    """An object whose longer side has about so many pixels."""
    aspect = rng.uniform(0.35, 1)
    short = max(8, round(longest * aspect))
    if longest < 20:
        return rectangle(short, longest) if rng.random() < 0.5 else ellipse(short, longest)
    kind = rng.choice(["rectangle", "turned", "ellipse", "bent", "court"], p=[0.25, 0.35, 0.15, 0.15, 0.1])
    if kind == "rectangle":
        mask = rectangle(short, longest)
    elif kind == "ellipse":
        mask = ellipse(short, longest)
    elif kind == "turned" or longest < 32:
        mask = bar(longest / 1.3, max(8, short / 1.3), rng.uniform(0, np.pi))
    elif kind == "bent":
        mask = bent(longest, rng)
    else:
        mask = rectangle(longest, longest)
        wall = max(8, longest // 4)
        mask[wall:-wall, wall:-wall] = 0
    return np.ascontiguousarray(np.rot90(mask, int(rng.integers(4))))


def bent(side: int, rng: np.random.Generator) -> Mask:
    """An L, or a U, whose arms a border may cut off from each other."""
    mask = rectangle(side, side)
    arm = max(8, side // 4)
    mask[arm:, arm : side if rng.random() < 0.3 else side - arm] = 0
    return np.ascontiguousarray(np.rot90(mask, int(rng.integers(4))))


def huge(side: int, number: int, rng: np.random.Generator) -> Mask:
    """An object longer than most tiles: a straight one, upright, level or slanted, a ring or a lake."""
    length = int(rng.integers(int(side * 0.12), int(side * 0.3))) if side > 4000 else int(side * rng.uniform(0.3, 0.6))
    if number % 5 == 0:
        return ellipse(length, length)
    if number % 5 == 1:
        ring = ellipse(length, length)
        inner = ellipse(length - 60, length - 60)
        ring[30 : 30 + inner.shape[0], 30 : 30 + inner.shape[1]] -= inner
        return ring
    angle = (0.0, np.pi / 2, rng.uniform(0, np.pi))[number % 5 - 2]
    return bar(length, int(rng.integers(8, 60)), angle)


def rectangle(height: int, width: int) -> Mask:
    return np.ones((height, width), np.uint8)


def ellipse(height: int, width: int) -> Mask:
    rows, columns = np.ogrid[:height, :width]
    offsets = ((rows + 0.5) / height - 0.5) ** 2 + ((columns + 0.5) / width - 0.5) ** 2
    return np.asarray(offsets <= 0.25, np.uint8)


def bar(length: float, width: float, angle: float) -> Mask:
    """A turned rectangle."""
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    corners = np.array(
        [a * along * length / 2 + b * across * width / 2 for a, b in ((1, 1), (1, -1), (-1, -1), (-1, 1))]
    )
    corners -= corners.min(0)
    canvas = np.zeros(np.ceil(corners.max(0)).astype(int)[::-1] + 1, np.uint8)
    return trimmed(cv2.fillPoly(canvas, [corners.round().astype(np.int32)], 1))


def trimmed(mask: Mask) -> Mask:
    """Without empty rows and columns around."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.ascontiguousarray(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def detect(
    objects: Sequence[Patch], plan: TilePlan, jitter: int = 1, seed: int = 0, missed: float = 0.0, short: int = 0
) -> dict[Tile, TileInstances]:
    """What is found in each tile, all of one class, in pixels of the tile.

    Args:
        objects: In pixels of the scene.
        plan: How the scene is cut.
        jitter: Pixels by which an outline may be off; 0 for none.
        seed: Of the jitter and of the scores.
        missed: Share of detections that a tile lacks.
        short: Pixels before an interior border, up to which a detection of a cut object may end.
    """
    rng = np.random.default_rng(seed)
    tiles: dict[Tile, list[tuple[Patch, float]]] = {tile: [] for tile in plan}
    for patch in objects:
        height, width = patch.pixels.shape
        for tile in tiles:
            if (
                patch.top < tile.top + tile.height
                and tile.top < patch.top + height
                and patch.left < tile.left + tile.width
                and tile.left < patch.left + width
            ):
                for piece in pieces(jittered(patch, jitter, rng), shrunk(tile, plan, short, rng)):
                    if missed and rng.random() < missed:
                        continue
                    share = min(1.0, piece.pixels.sum() / patch.pixels.sum())
                    piece = Patch(piece.top - tile.top, piece.left - tile.left, piece.pixels)
                    tiles[tile].append((piece, float(rng.uniform(0.6, 1)) * share**0.2))
    return {tile: instances(found) for tile, found in tiles.items()}


def uncut(objects: Sequence[Patch], jitter: int = 1, seed: int = 0) -> list[Patch]:
    """What would be found if no tile cut an object."""
    rng = np.random.default_rng(seed)
    return [jittered(patch, jitter, rng) for patch in objects]


def jittered(patch: Patch, jitter: int, rng: np.random.Generator) -> Patch:
    """The same object with its outline moved: to one side, inwards or outwards."""
    if not jitter:
        return patch
    kind = int(rng.integers(11))
    if kind < 9:
        return Patch(patch.top + (kind // 3 - 1) * jitter, patch.left + (kind % 3 - 1) * jitter, patch.pixels)
    kernel = np.ones((2 * jitter + 1, 2 * jitter + 1), np.uint8)
    padded = np.pad(patch.pixels, jitter)
    changed = cv2.erode(padded, kernel) if kind == 9 else cv2.dilate(padded, kernel)
    return Patch(patch.top - jitter, patch.left - jitter, changed)


def shrunk(tile: Tile, plan: TilePlan, most: int, rng: np.random.Generator) -> Tile:
    """A tile without up to `most` pixels at each interior border."""
    if not most:
        return tile
    top, left, bottom, right = (int(number) for number in rng.integers(0, most + 1, 4))
    top, left = top * (tile.top > 0), left * (tile.left > 0)
    bottom *= tile.top + tile.height < plan.height
    right *= tile.left + tile.width < plan.width
    height, width = tile.height - top - bottom, tile.width - left - right
    return tile._replace(top=tile.top + top, left=tile.left + left, height=height, width=width)


def pieces(patch: Patch, tile: Tile) -> list[Patch]:
    """What a tile shows of an object, in pixels of the scene, each connected piece apart."""
    top, left = max(patch.top, tile.top), max(patch.left, tile.left)
    shown = patch.pixels[
        top - patch.top : max(0, tile.top + tile.height - patch.top),
        left - patch.left : max(0, tile.left + tile.width - patch.left),
    ]
    if not shown.any():
        return []
    _, labels, facts, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(shown), connectivity=4)
    found = []
    for number, (x, y, width, height, area) in enumerate(facts[1:].tolist(), 1):
        if area >= SMALLEST_PIECE:
            pixels = np.asarray(labels[y : y + height, x : x + width] == number, np.uint8)
            found.append(Patch(top + y, left + x, pixels))
    return found


def instances(found: Sequence[tuple[Patch, float]]) -> TileInstances:
    """Best first, as detectors give them."""
    ordered = sorted(found, key=lambda pair: -pair[1])
    patches = [patch for patch, _ in ordered]
    boxes = [(p.left, p.top, p.left + p.pixels.shape[1], p.top + p.pixels.shape[0]) for p in patches]
    return TileInstances(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array([score for _, score in ordered], np.float32),
        labels=np.zeros(len(ordered), np.int64),
        masks=patches,
    )
