"""Eight orientations of a tile, put together; compared with dense masks put together one by one."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from distill.patch import Patch
from distill.scene.detections import Pixels, TileInstances
from distill.scene.tta import ORIENTATIONS, Orientation, with_tta

Size = tuple[int, int]
Bits = NDArray[np.bool_]


def instances(found: Sequence[tuple[float, int, Bits]]) -> TileInstances:
    patches = [Patch(0, 0, mask.astype(np.uint8)).trimmed() for _, _, mask in found]
    boxes = [(p.left, p.top, p.left + p.pixels.shape[1], p.top + p.pixels.shape[0]) for p in patches]
    scores, labels = (np.array([one[place] for one in found]) for place in (0, 1))
    return TileInstances(
        np.array(boxes, np.float32).reshape(-1, 4), scores.astype(np.float32), labels.astype(np.int64), patches
    )


def dense(patch: Patch, size: Size) -> Bits:
    mask = np.zeros(size, bool)
    mask[patch.top : patch.top + patch.pixels.shape[0], patch.left : patch.left + patch.pixels.shape[1]] = patch.pixels
    return mask


class Known:
    def __init__(self) -> None:
        self.class_names = ["a", "b"]


class Levels(Known):
    """An instance for each grey level of the red band; the level is its score in percent. Sees no orientation."""

    def tile_instances(self, tiles: Sequence[Pixels]) -> list[TileInstances]:
        found = []
        for tile in tiles:
            levels = sorted(set(tile[0].ravel().tolist()) - {0}, reverse=True)
            found.append(instances([(level / 100, level % 2, tile[0] == level) for level in levels]))
        return found


class Noisy(Known):
    """Finds rectangles that move, vanish and change their class from tile to tile."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.rng = np.random.default_rng(3)
        self.answers: list[TileInstances] = []

    def tile_instances(self, tiles: Sequence[Pixels]) -> list[TileInstances]:
        (tile,) = tiles
        orientation = ORIENTATIONS[len(self.answers)]
        assert tile.shape[1:] == (self.size if orientation.turns % 2 == 0 else self.size[::-1])
        found = []
        for number in range(6):
            mask = np.zeros(self.size, np.uint8)
            place = np.array([2 + 9 * (number // 3), 2 + 9 * (number % 3)])
            top, left = place + self.rng.integers(-1, 2, 2)
            mask[top : top + 8, left : left + self.rng.integers(6, 10)] = 1
            if self.rng.random() < 0.8:
                turned = orientation.apply(mask).astype(bool)
                found.append((round(self.rng.random(), 1), int(self.rng.random() < 0.2), turned))
        self.answers.append(instances(sorted(found, key=lambda one: -one[0])))
        return [self.answers[-1]]


def slowly(answers: Sequence[TileInstances], size: Size) -> list[tuple[float, int, Bits]]:
    """The same with dense masks."""
    pool: list[tuple[int, float, int, Bits]] = []
    for variant, (orientation, answer) in enumerate(zip(ORIENTATIONS, answers, strict=True)):
        turned = size if orientation.turns % 2 == 0 else (size[1], size[0])
        for score, label, patch in zip(answer.scores.tolist(), answer.labels.tolist(), answer.masks, strict=True):
            upright = np.rot90(dense(patch, turned), -orientation.turns)
            pool.append((variant, score, label, upright[:, ::-1] if orientation.mirror else upright))
    pool.sort(key=lambda one: (-one[1], one[0]))
    objects = []
    while pool:
        best = pool.pop(0)
        members = [best]
        for variant in range(8):
            overlaps = [
                (one[3] & best[3]).sum() / (one[3] | best[3]).sum() * (one[2] == best[2] and one[0] == variant)
                for one in pool
            ]
            if variant != best[0] and pool and max(overlaps) >= 0.5:
                members.append(pool.pop(int(np.argmax(overlaps))))
        mask = np.mean([one[3] for one in members], axis=0) >= 0.5
        objects.append((sum(one[1] for one in members) / 8, best[2], mask))
    return sorted(objects, key=lambda one: -one[0])


def test_orientations_are_eight_and_can_be_undone() -> None:
    tile = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    seen = [orientation.apply(tile) for orientation in ORIENTATIONS]
    assert ORIENTATIONS[0] == Orientation(mirror=False, turns=0)
    assert len({(one.shape, one.tobytes()) for one in seen}) == 8
    assert all(one.flags.c_contiguous for one in seen)
    patch = Patch(1, 3, np.array([[1, 0], [1, 1]], np.uint8))
    for orientation, one in zip(ORIENTATIONS, seen, strict=True):
        assert np.array_equal(orientation.undo(one), tile)
        turned = Patch(0, 0, orientation.apply(dense(patch, (4, 5)).astype(np.uint8))).trimmed()
        x1, y1 = turned.left, turned.top
        box, back = orientation.undo_instance(np.array([x1, y1, x1 + 2.0, y1 + 2.0]), turned, (4, 5))
        assert (back.top, back.left, back.pixels.tolist()) == (1, 3, [[1, 0], [1, 1]])
        assert box.tolist() == [3, 1, 5, 3]


def test_a_model_that_sees_no_orientation_keeps_its_instances() -> None:
    tiles = [np.zeros((3, 20, 30), np.uint8), np.zeros((3, 9, 9), np.uint8)]
    for level, where in ((90, np.s_[2:7, 3:9]), (71, np.s_[7:9, 0:4]), (40, np.s_[15:20, 25:30]), (33, np.s_[10, 11])):
        tiles[0][0][where] = level
    for found, single in zip(with_tta(Levels()).tile_instances(tiles), Levels().tile_instances(tiles), strict=True):
        assert np.array_equal(found.boxes, single.boxes)
        assert np.array_equal(found.scores, single.scores)
        assert np.array_equal(found.labels, single.labels)
        for one, other in zip(found.masks, single.masks, strict=True):
            assert (one.top, one.left, one.pixels.tolist()) == (other.top, other.left, other.pixels.tolist())


def test_noisy_instances_are_those_of_dense_masks() -> None:
    size = (24, 34)
    model = Noisy(size)
    (found,) = with_tta(model).tile_instances([np.zeros((3, *size), np.uint8)])
    expected = slowly(model.answers, size)
    assert 6 <= len(expected) < sum(map(len, model.answers)) / 2
    assert found.scores.tolist() == pytest.approx([score for score, _, _ in expected])
    assert found.labels.tolist() == [label for _, label, _ in expected]
    for patch, (_, _, mask) in zip(found.masks, expected, strict=True):
        assert np.array_equal(dense(patch, size), mask)


class Gradient(Known):
    """Logits that depend on where a pixel lies in the tile."""

    def tile_logits(self, tiles: Sequence[Pixels]) -> list[NDArray[np.float32]]:
        return [np.stack([tile[0] + np.arange(tile.shape[2]), tile[1]]).astype(np.float32) / 3 for tile in tiles]


class Pointwise(Known):
    """Logits that do not."""

    def tile_logits(self, tiles: Sequence[Pixels]) -> list[NDArray[np.float32]]:
        return [tile[:2].astype(np.float32) / 3 for tile in tiles]


def test_logits_are_averaged_upright() -> None:
    rng = np.random.default_rng(0)
    tiles = [rng.integers(0, 200, (3, *size), dtype=np.uint8) for size in ((5, 8), (6, 6))]
    for found, tile in zip(with_tta(Gradient()).tile_logits(tiles), tiles, strict=True):
        rows, columns = np.mgrid[: tile.shape[1], : tile.shape[2]]
        across = [rows, columns, rows.max() - rows, columns.max() - columns]
        assert found[0] == pytest.approx((tile[0] + np.mean(across, axis=0)) / 3, rel=1e-6)
        assert found.dtype == np.float32
    for found, single in zip(with_tta(Pointwise()).tile_logits(tiles), Pointwise().tile_logits(tiles), strict=True):
        assert np.array_equal(found, single)


def test_no_tiles() -> None:
    assert with_tta(Gradient()).tile_logits([]) == with_tta(Levels()).tile_instances([]) == []
