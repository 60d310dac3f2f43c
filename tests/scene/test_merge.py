"""Objects that several tiles saw are given once: each rule of the merge alone, then all of them on known scenes."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks.scene_oracle import detect, make_objects, uncut
from benchmarks.scene_verdict import Verdict, judge
from distill.data.tiling import Tile, TilePlan
from distill.patch import Patch
from distill.scene import components
from distill.scene.detections import Detection, TileInstances
from distill.scene.merge import CrossTileMerge, MergeRules
from distill.scene.sightings import Lifting

PAIR = TilePlan(height=100, width=160, tile=100, overlap=40)  # two tiles, the second from column 60
CORNER = TilePlan(height=160, width=160, tile=100, overlap=40)  # four
Rectangle = tuple[int, int, int, int]  # top, left, bottom, right in pixels of the scene


def box(top: int, left: int, bottom: int, right: int) -> Patch:
    return Patch(top, left, np.ones((bottom - top, right - left), np.uint8))


def found(
    tile: Tile, masks: Sequence[Patch], scores: Sequence[float] = (), labels: Sequence[int] = ()
) -> TileInstances:
    """Detections of a tile with these masks, in pixels of the scene."""
    boxes = [(p.left, p.top, p.left + p.pixels.shape[1], p.top + p.pixels.shape[0]) for p in masks]
    return TileInstances(
        boxes=np.array(boxes, np.float32).reshape(-1, 4) - np.array([tile.left, tile.top] * 2, np.float32),
        scores=np.array(scores or [0.5] * len(masks), np.float32),
        labels=np.array(labels or [0] * len(masks), np.int64),
        masks=[Patch(p.top - tile.top, p.left - tile.left, p.pixels) for p in masks],
    )


def merge(plan: TilePlan, seen: dict[Tile, TileInstances], rules: MergeRules | None = None) -> list[Detection]:
    merging = CrossTileMerge(plan, rules or MergeRules())
    final = []
    for row in range(len(plan.tops)):
        final += merging.add_row(row, [(tile, seen[tile]) for tile in plan.row(row) if tile in seen])
    return final + merging.finish()


def of(plan: TilePlan, *tiles: Sequence[Patch]) -> list[Detection]:
    """What becomes of these masks, given for one tile after the other."""
    return merge(plan, {tile: found(tile, masks) for tile, masks in zip(plan, tiles, strict=True)})


def frames(results: Sequence[Detection]) -> list[Rectangle]:
    masks = [one.mask for one in results]
    return sorted((m.top, m.left, m.top + m.pixels.shape[0], m.left + m.pixels.shape[1]) for m in masks)


def test_an_object_that_two_tiles_saw_whole_is_given_once_as_the_tile_saw_it_that_has_it_farther_inside() -> None:
    far, near = box(40, 70, 50, 85), box(41, 70, 50, 85)
    (result,) = of(PAIR, [far], [near])  # 15 px to the first tile's border, 10 to the second's
    assert (result.tile, result.parts, result.truncated) == ((0, 0), 1, (False,) * 4)
    assert frames([result]) == [(40, 70, 50, 85)]
    assert result.box == (70, 40, 85, 50)


def test_an_object_across_the_scene_is_joined_up_to_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A river along the diagonal: the rectangle around it grows with the square of its length."""
    plan = TilePlan(height=600, width=600, tile=100, overlap=40)
    river = np.abs(np.subtract.outer(np.arange(600), np.arange(600))) < 6
    seen = {
        tile: found(tile, [Patch(tile.top, tile.left, part.astype(np.uint8)).trimmed()])
        for tile in plan
        if (part := river[tile.top : tile.top + 100, tile.left : tile.left + 100]).any()
    }
    (whole,) = merge(plan, seen)
    assert np.array_equal(whole.mask.pixels, river)
    monkeypatch.setattr(components, "LARGEST", 250 * 250)
    parts = [one.mask for one in merge(plan, seen)]
    assert 3 <= len(parts) <= 6
    covered = np.zeros_like(river)
    for top, left, pixels in parts:
        assert pixels.size <= 250 * 250
        covered[top : top + pixels.shape[0], left : left + pixels.shape[1]] |= pixels.astype(bool)
    assert np.array_equal(covered, river)


def test_of_detections_equally_far_inside_the_better_one_is_given() -> None:
    left, right = PAIR
    seen = {left: found(left, [box(40, 75, 50, 85)], [0.6]), right: found(right, [box(41, 75, 50, 85)], [0.7])}
    (result,) = merge(PAIR, seen)
    assert (result.tile, result.score) == ((0, 1), pytest.approx(0.7))


def test_an_object_longer_than_the_overlap_is_put_together() -> None:
    """The plain IoU of its parts is 0.27, that of longer ones less: they are alike in the overlap alone."""
    left, right = PAIR
    seen = {left: found(left, [box(40, 10, 50, 100)], [0.9]), right: found(right, [box(40, 60, 50, 150)], [0.6])}
    seen[right].scores[:] = 0.6
    (result,) = merge(PAIR, seen)
    assert frames([result]) == [(40, 10, 50, 150)]
    assert result.box == (10, 40, 150, 50)
    assert result.score == pytest.approx(0.75)
    assert (result.tile, result.parts, result.truncated) == ((0, 1), 2, (False,) * 4)


def test_the_score_of_a_union_is_the_mean_by_area() -> None:
    left, right = PAIR
    seen = {left: found(left, [box(40, 0, 50, 100)], [0.9]), right: found(right, [box(40, 60, 50, 120)], [0.6])}
    (result,) = merge(PAIR, seen)
    assert result.score == pytest.approx((0.9 * 1000 + 0.6 * 600) / 1600)
    assert result.tile == (0, 0)


def test_an_object_longer_than_a_tile_is_put_together_over_many_tiles() -> None:
    plan = TilePlan(height=100, width=500, tile=100, overlap=20)
    (result,) = merge(plan, detect([box(20, 15, 32, 485)], plan, jitter=0))
    assert frames([result]) == [(20, 15, 32, 485)]
    assert result.parts == len(plan) == 6


def test_an_object_on_the_corner_of_four_tiles_is_given_once() -> None:
    for thing, parts in ((box(74, 74, 86, 86), 1), (box(20, 20, 140, 140), 4)):
        (result,) = merge(CORNER, detect([thing], CORNER, jitter=0))
        assert result.parts == parts
        assert np.array_equal(result.mask.pixels, thing.pixels)


def test_diagonal_neighbours_are_compared() -> None:
    """The two tiles that lie between them missed it."""
    assert len(of(CORNER, [box(74, 74, 86, 86)], [], [], [box(74, 74, 86, 86)])) == 1


def test_tiles_that_are_no_neighbours_but_overlap_are_compared() -> None:
    plan = TilePlan(height=100, width=220, tile=100, overlap=70)
    tiles = list(plan)
    assert tiles[2].left == 60
    thing = box(40, 69, 50, 91)
    assert len(merge(plan, {tile: found(tile, [thing]) for tile in (tiles[0], tiles[2])})) == 1


def test_an_object_inside_another_stays() -> None:
    large, small = box(10, 40, 90, 90), box(40, 74, 52, 86)
    assert frames(of(PAIR, [large, small], [box(10, 60, 90, 90), small])) == [(10, 40, 90, 90), (40, 74, 52, 86)]


def test_a_whole_object_is_not_like_one_that_goes_on_beyond_its_tile() -> None:
    """In the overlap they share 0.6, but the first tile saw the small one end 16 px before its border."""
    small, large = box(40, 62, 50, 84), box(38, 60, 52, 150)
    left = [small, box(38, 0, 52, 30)]
    assert frames(of(PAIR, left, [large])) == [(38, 0, 52, 30), (38, 60, 52, 150), (40, 62, 50, 84)]


def test_a_large_object_may_end_some_way_before_the_border_if_the_neighbour_saw_it_go_on() -> None:
    (result,) = of(PAIR, [box(0, 0, 50, 91)], [box(0, 60, 50, 150)])
    assert frames([result]) == [(0, 0, 50, 150)]
    assert result.parts == 2


def test_an_object_of_another_class_stays() -> None:
    left, right = PAIR
    thing = box(40, 74, 50, 86)
    seen = {left: found(left, [thing], labels=[0]), right: found(right, [thing], labels=[1])}
    assert sorted(result.label for result in merge(PAIR, seen)) == [0, 1]


def test_roofs_that_touch_stay_apart() -> None:
    roofs = [box(20 + 8 * row, 58 + 8 * n, 28 + 8 * row, 66 + 8 * n) for row in range(5) for n in range(6)]
    results = merge(PAIR, detect(roofs, PAIR, seed=1))
    assert judge(roofs, [one.mask for one in results]).excess == 0
    assert judge(roofs, [one.mask for one in results]).joins == 0


def test_each_detection_of_a_tile_is_like_one_of_another_tile_at_most() -> None:
    """One blob in the second tile is half like each of two roofs; it goes with one, and does not join them."""
    first, second = box(40, 70, 50, 80), box(40, 80, 50, 90)
    assert frames(of(PAIR, [first, second], [box(40, 70, 50, 90)])) == [(40, 70, 50, 80), (40, 80, 50, 90)]


def test_a_detection_that_leaks_into_a_neighbour_does_not_join_it() -> None:
    """The same for truncated ones: the second tile's is like both and covers too little of the second one."""
    first, second, leaking = box(40, 0, 50, 100), box(50, 0, 60, 100), box(40, 60, 56, 150)
    assert frames(of(PAIR, [first, second], [leaking])) == [(40, 0, 56, 150), (50, 0, 60, 100)]


def test_two_roofs_of_which_each_tile_saw_one_stay_apart() -> None:
    """Outlines that are off by 1 px let them share a column or two."""
    assert len(of(PAIR, [box(40, 72, 50, 81)], [box(40, 79, 50, 88)])) == 2


def test_two_whole_objects_of_a_tile_are_never_joined_by_way_of_other_tiles() -> None:
    one, two = box(72, 72, 88, 80), box(72, 80, 88, 88)
    blob, most = box(72, 72, 88, 88), box(72, 76, 88, 88)
    assert frames(of(CORNER, [one, two], [blob], [most], []))[1:] == [(72, 80, 88, 88)]  # one - blob - most - two


def test_a_strip_along_a_border_is_dropped_where_the_neighbour_has_the_object() -> None:
    """It is 9 px wide in one tile and 1 px in the other: no likeness, and no second object."""
    assert frames(of(PAIR, [box(40, 30, 60, 61)], [box(40, 60, 60, 69)])) == [(40, 30, 60, 61)]
    assert of(PAIR, [], [box(40, 60, 60, 69)]) == []


def test_a_truncated_object_that_the_neighbour_missed_stays_where_the_tile_owns_most_of_it() -> None:
    (result,) = of(PAIR, [], [box(40, 60, 60, 120)])
    assert result.truncated == (False, True, False, False)
    assert result.parts == 1


def test_a_union_is_truncated_where_its_last_tile_cuts_it() -> None:
    plan = TilePlan(height=100, width=220, tile=100, overlap=40)
    first, second, _ = plan
    (result,) = merge(plan, {tile: detect([box(40, 10, 50, 200)], plan, jitter=0)[tile] for tile in (first, second)})
    assert result.truncated == (False, False, False, True)


def test_the_border_of_the_scene_truncates_nothing() -> None:
    (result,) = of(PAIR, [box(0, 0, 100, 30)], [])
    assert result.truncated == (False,) * 4


@pytest.mark.parametrize("early", [0, 3, 8])
def test_a_mask_that_ends_before_the_border_is_truncated_all_the_same(early: int) -> None:
    (result,) = of(PAIR, [box(40, 30, 60, 100 - early)], [box(40, 60 + early, 60, 130)])
    assert frames([result]) == [(40, 30, 60, 130)]


def test_a_box_that_reaches_the_border_truncates_a_mask_that_does_not() -> None:
    left, _ = PAIR
    cut = found(left, [box(40, 30, 60, 88)])
    cut.boxes[0, 2] = 100
    assert [one.truncated for one in merge(PAIR, {left: cut})] == [(False, False, False, True)]


def test_a_piece_that_a_border_cut_off_joins_the_object_that_covers_it() -> None:
    """Two arms of a U, longer than the overlap: the second tile sees two objects, of which one is like the whole U."""
    pixels = np.ones((60, 130), np.uint8)
    pixels[15:45, 20:] = 0
    thing = Patch(20, 10, pixels)
    seen = detect([thing], PAIR, jitter=0)
    assert [len(instances) for instances in seen.values()] == [1, 2]
    (result,) = merge(PAIR, seen)
    assert np.array_equal(result.mask.pixels, pixels)
    assert result.parts == 3


def test_an_object_inside_another_does_not_join_it_where_one_tile_missed_it() -> None:
    large, small = [box(10, 10, 90, 100)], [box(10, 60, 90, 150), box(40, 60, 50, 130)]
    assert frames(of(PAIR, large, small)) == [(10, 10, 90, 150), (40, 60, 50, 130)]


def test_objects_that_fill_the_overlap_are_told_apart_by_other_tiles() -> None:
    """Where a lake and an island in it both fill the overlap of two tiles, each is like the other there."""
    plan = TilePlan(height=300, width=300, tile=100, overlap=55)
    lake, island = box(5, 5, 295, 295), box(60, 60, 150, 150)
    results = merge(plan, detect([lake, island], plan, jitter=0))
    assert frames(results) == [(5, 5, 295, 295), (60, 60, 150, 150)]


def test_objects_are_given_as_soon_as_no_later_tile_can_see_them() -> None:
    plan = TilePlan(height=400, width=100, tile=100, overlap=20)
    things = [box(5, 5, 20, 20), box(70, 40, 110, 50), box(60, 60, 250, 70), box(300, 10, 390, 30)]
    seen = detect(things, plan, jitter=0)
    merging = CrossTileMerge(plan)
    given = [frames(merging.add_row(row, [(t, seen[t]) for t in plan.row(row)])) for row in range(len(plan.tops))]
    assert plan.tops == (0, 75, 150, 225, 300)
    assert given == [[(5, 5, 20, 20)], [(70, 40, 110, 50)], [], [(60, 60, 250, 70)], [(300, 10, 390, 30)]]
    assert merging.finish() == []


def test_rows_come_in_order() -> None:
    merging = CrossTileMerge(CORNER)
    with pytest.raises(ValueError, match="row 1 of tiles was given; row 0 is next"):
        merging.add_row(1, [])


def test_tiles_without_anything_are_no_trouble() -> None:
    assert of(CORNER, [], [], [], []) == []
    assert merge(CORNER, {}) == []
    assert of(PAIR, [Patch(40, 10, np.zeros((5, 5), np.uint8))], []) == []


def described(results: Sequence[Detection]) -> list[tuple[object, ...]]:
    return [(*dataclasses.astuple(one)[:4], one.mask.top, one.mask.left, one.mask.pixels.tobytes()) for one in results]


def test_pixels_in_common_are_those_of_full_arrays() -> None:
    rng = np.random.default_rng(0)
    tile, _ = PAIR
    masks = [Patch(*rng.integers(0, 60, 2).tolist(), rng.integers(0, 2, (25, 30), np.uint8)) for _ in range(8)]
    sightings = Lifting(PAIR, 8).sightings(tile, found(tile, masks))
    window = (20, 30, 70, 80)
    for one in sightings:
        for other in sightings:
            both = np.ones((100, 160), np.uint8)
            for mask in (one.detection.mask, other.detection.mask):
                full = np.zeros_like(both)
                full[mask.top : mask.top + 25, mask.left : mask.left + 30] = mask.pixels
                both &= full
            assert one.shared(other, window) == both[20:70, 30:80].sum()
            assert one.shared(one, window) == one.count(window)


SCENE = TilePlan(height=2048, width=2048, tile=512, overlap=128)


@pytest.fixture(scope="module")
def objects() -> list[Patch]:
    return make_objects(SCENE, 312)


@pytest.fixture(scope="module")
def detections(objects: list[Patch]) -> dict[Tile, TileInstances]:
    return detect(objects, SCENE)


def test_the_result_depends_on_no_order(detections: dict[Tile, TileInstances]) -> None:
    rng = np.random.default_rng(0)
    expected = described(merge(SCENE, flat(detections)))
    shuffled = {}
    for tile, seen in reversed(flat(detections).items()):
        order = rng.permutation(len(seen))
        masks = [seen.masks[index] for index in order]
        shuffled[tile] = TileInstances(seen.boxes[order], seen.scores[order], seen.labels[order], masks)
    merging = CrossTileMerge(SCENE)
    final = []
    for row in range(len(SCENE.tops)):
        final += merging.add_row(row, [(tile, seen) for tile, seen in shuffled.items() if tile.row == row])
    assert described(final + merging.finish()) == expected


def flat(detections: dict[Tile, TileInstances]) -> dict[Tile, TileInstances]:
    """All scores alike: what ties are broken by is what is left."""
    return {
        tile: dataclasses.replace(seen, scores=np.full(len(seen), 0.5, np.float32)) for tile, seen in detections.items()
    }


def test_every_object_of_a_scene_is_given_once(objects: list[Patch], detections: dict[Tile, TileInstances]) -> None:
    assert_perfect(objects, merge(SCENE, detections))


def assert_perfect(objects: list[Patch], results: list[Detection]) -> None:
    verdict = judge(objects, [one.mask for one in results])
    assert verdict == Verdict(doubles=0, splits=0, joins=0, lost=0, excess=0, iou=verdict.iou)
    # Outlines are off by 1 px in every tile. Compared with detections that no border cuts, nothing is lost.
    assert verdict.iou >= 0.98 * judge(objects, uncut(objects)).iou


def test_without_errors_of_the_detector_every_mask_is_exact_in_any_tiles() -> None:
    """Moved tiles, other tiles, and tiles that overlap three deep: the same objects, bit by bit."""
    plans = [TilePlan(1024, 1024, *tile) for tile in ((256, 64), (320, 32), (240, 130))]
    objects = make_objects(plans[0], 90)
    for plan in plans:
        assert pixels(merge(plan, detect(objects, plan, jitter=0)), 0) == {pixels_of(patch, 0) for patch in objects}
    shifted = [patch._replace(top=patch.top + 111, left=patch.left + 111) for patch in objects]
    plan = TilePlan(1024 + 111, 1024 + 111, 256, 64)
    assert pixels(merge(plan, detect(shifted, plan, jitter=0)), 111) == {pixels_of(patch, 0) for patch in objects}


def pixels(results: Sequence[Detection], shift: int) -> set[tuple[int, int, bytes]]:
    return {pixels_of(one.mask, shift) for one in results}


def pixels_of(patch: Patch, shift: int) -> tuple[int, int, bytes]:
    return int(patch.top) - shift, int(patch.left) - shift, patch.pixels.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_every_object_of_a_large_scene_is_given_once(seed: int) -> None:
    plan = TilePlan(height=8192, width=8192, tile=1024, overlap=128)
    objects = make_objects(plan, 5000, seed)
    assert_perfect(objects, merge(plan, detect(objects, plan, seed=seed)))
