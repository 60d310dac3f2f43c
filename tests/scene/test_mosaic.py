"""Land cover from overlapping tiles: equal to a mean in memory, without seams, whole files only."""

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from distill.data.tiling import TilePlan
from distill.errors import UserError
from distill.scene.mosaic import ClassBlock, RowBlender, blending_weights, class_blocks, classify
from distill.scene.mosaic_file import RowLayout, RowReader, row_bytes

PLANS = [
    TilePlan(height=70, width=90, tile=32, overlap=8),
    TilePlan(height=40, width=37, tile=32, overlap=24),  # three tiles deep
    TilePlan(height=35, width=33, tile=32, overlap=31),
    TilePlan(height=64, width=96, tile=32, overlap=0),
    TilePlan(height=20, width=50, tile=32, overlap=4),
    TilePlan(height=20, width=30, tile=32, overlap=4),
]
CLASSES = 5


def tile_logits(plan: TilePlan, classes: int = CLASSES) -> dict[tuple[int, int], NDArray[np.float32]]:
    random = np.random.default_rng(0)
    return {
        (tile.row, tile.column): random.normal(0, 5, (classes, tile.height, tile.width)).astype(np.float32)
        for tile in plan
    }


def some_valid(plan: TilePlan) -> NDArray[np.bool_]:
    valid = np.random.default_rng(1).random((plan.height, plan.width)) > 0.1
    valid[: plan.height // 2, : plan.width // 3] = False
    return valid


def write_rows(
    plan: TilePlan,
    logits: dict[tuple[int, int], NDArray[np.float32]],
    valid: NDArray[np.bool_],
    folder: Path,
    confidence: bool = True,
    backwards: bool = False,
) -> list[Path]:
    classes = len(next(iter(logits.values())))
    paths = [folder / f"row{row}.bin" for row in range(len(plan.tops))]
    for row in sorted(range(len(paths)), reverse=backwards):
        with RowBlender(plan, row, classes, paths[row], confidence) as blender:
            for tile in plan.row(row):
                mask = valid[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
                blender.add(tile, logits[tile.row, tile.column] if mask.any() else None, mask)
    return paths


def whole(plan: TilePlan, blocks: list[ClassBlock]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    assert [block.top for block in blocks] == [0, *np.cumsum([len(block.labels) for block in blocks])[:-1]]
    labels = np.concatenate([block.labels for block in blocks])
    assert labels.shape == (plan.height, plan.width)
    return labels, np.concatenate([block.confidence for block in blocks if block.confidence is not None])


def slow_twin(plan: TilePlan, logits: dict[tuple[int, int], NDArray[np.float32]]) -> NDArray[np.float64]:
    """Logits of the scene, all in memory, with weights written pixel by pixel."""

    def ramp(starts: tuple[int, ...], number: int, side: int, pixel: int) -> float:
        value = 1.0
        for neighbour in (number - 1, number + 1):
            if 0 <= neighbour < len(starts):
                overlap = side - abs(starts[neighbour] - starts[number])
                inside = pixel + 0.5 if neighbour < number else side - pixel - 0.5
                value = min(value, inside / overlap) if overlap else value
        return value

    classes = len(next(iter(logits.values())))
    total, weights = np.zeros((classes, plan.height, plan.width)), np.zeros((plan.height, plan.width))
    for tile in plan:
        rows = np.array([ramp(plan.tops, tile.row, tile.height, y) for y in range(tile.height)])
        columns = np.array([ramp(plan.lefts, tile.column, tile.width, x) for x in range(tile.width)])
        weight = rows[:, None] * columns
        window = (slice(tile.top, tile.top + tile.height), slice(tile.left, tile.left + tile.width))
        total[(slice(None), *window)] += logits[tile.row, tile.column] * weight
        weights[window] += weight
    return total / weights


@pytest.mark.parametrize("plan", PLANS)
def test_the_mosaic_equals_a_weighted_mean_in_memory(plan: TilePlan, tmp_path: Path) -> None:
    logits, valid = tile_logits(plan), some_valid(plan)
    expected = slow_twin(plan, logits)
    paths = write_rows(plan, logits, valid, tmp_path)
    labels, confidence = whole(plan, list(class_blocks(plan, paths, CLASSES, True)))
    best, second = np.sort(expected, axis=0)[[-1, -2]]
    clear = best - second > 1e-4
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(labels[valid & clear], expected.argmax(0)[valid & clear])
    assert (labels[~valid] == 255).all()
    probability = 1 / np.exp(expected - best).sum(0)
    assert np.abs(confidence - probability * 255)[valid].max() <= 0.51
    assert (confidence[~valid] == 0).all()


@pytest.mark.parametrize("plan", PLANS[:4])
def test_the_logits_in_the_files_add_up(plan: TilePlan, tmp_path: Path) -> None:
    """Rows of tiles that share pixels keep logits, and their sum is the mean, to 1e-5."""
    logits, valid = tile_logits(plan), np.ones((plan.height, plan.width), bool)
    expected = slow_twin(plan, logits)
    total, seen = np.zeros_like(expected), np.zeros(valid.shape, bool)
    for row, path in enumerate(write_rows(plan, logits, valid, tmp_path)):
        layout = RowLayout(plan, row, CLASSES, True)
        with RowReader(path, layout) as reader:
            for block, (left, right) in enumerate(layout.columns):
                for band in layout.bands:
                    if band.shared:
                        rows = slice(plan.tops[row] + band.start, plan.tops[row] + band.stop)
                        part, mask = reader.shared(block, band.start, band.stop)
                        total[:, rows, left:right] += part.swapaxes(0, 1)
                        seen[rows, left:right] |= mask
    assert seen.any() == (plan.overlap > 0)
    np.testing.assert_allclose(total[:, seen], expected[:, seen], rtol=0, atol=1e-5)


def test_equal_weights_are_the_mean_of_all_windows(tmp_path: Path) -> None:
    """Where plan and weights coincide, in the middle of an overlap, blending is the mean that evaluation takes."""
    plan = TilePlan(height=16, width=47, tile=32, overlap=17)
    logits = tile_logits(plan)
    blended = slow_twin(plan, logits)[:, :, 23]  # the middle of columns 15 to 31
    np.testing.assert_allclose(blended, (logits[0, 0][:, :, 23] + logits[0, 1][:, :, 8]) / 2, rtol=1e-6)
    paths = write_rows(plan, logits, np.ones((16, 47), bool), tmp_path)
    labels, _ = whole(plan, list(class_blocks(plan, paths, CLASSES, True)))
    np.testing.assert_array_equal(labels[:, 23], blended.argmax(0))


@pytest.mark.parametrize("plan", PLANS)
def test_weights_add_up_to_one_and_are_one_where_a_tile_is_alone(plan: TilePlan) -> None:
    side = min(plan.tile, plan.width)
    total, count = np.zeros(plan.width), np.zeros(plan.width, int)
    weights = blending_weights(plan.lefts, side)
    for start, weight in zip(plan.lefts, weights, strict=True):
        total[start : start + side] += weight
        count[start : start + side] += 1
        assert (weight > 0).all()
    np.testing.assert_allclose(total, 1, atol=1e-6)
    for start, weight in zip(plan.lefts, weights, strict=True):
        assert (weight[count[start : start + side] == 1] == 1).all()


def test_the_order_of_rows_changes_no_byte(tmp_path: Path) -> None:
    plan = PLANS[1]
    logits, valid = tile_logits(plan), some_valid(plan)
    one = write_rows(plan, logits, valid, tmp_path / "one")
    other = write_rows(plan, logits, valid, tmp_path / "other", backwards=True)
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    assert [path.stat().st_size for path in one] == [row_bytes(plan, row, CLASSES, True) for row in range(len(one))]


def test_logits_are_kept_of_shared_pixel_rows_only(tmp_path: Path) -> None:
    plan = TilePlan(height=20000, width=20000, tile=1024, overlap=128)
    line = 20000 * 7 * 4
    overlaps = [before + 1024 - after for before, after in itertools.pairwise(plan.tops)]
    size = row_bytes(plan, 1, 7, False)
    assert size == pytest.approx(line * (overlaps[0] + overlaps[1]), rel=0.12)  # labels and masks beside it


def test_a_row_holds_the_open_overlap_in_memory_and_not_the_row(tmp_path: Path) -> None:
    plan = TilePlan(height=600, width=4000, tile=256, overlap=32)
    logits = np.zeros((CLASSES, 256, 256), np.float32)
    valid = np.ones((256, 256), bool)
    tracemalloc.start()
    with RowBlender(plan, 1, CLASSES, tmp_path / "row", False) as blender:
        for tile in plan.row(1):
            blender.add(tile, logits, valid)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * logits.nbytes < CLASSES * 256 * 4000 * 4 / 10


def test_a_row_that_fails_leaves_nothing(tmp_path: Path) -> None:
    plan = PLANS[0]
    path = tmp_path / "row"
    path.write_text("before", encoding="utf-8")
    broken = np.full((CLASSES, 32, 32), np.nan, np.float32)
    first = plan.row(0)[0]
    with (
        pytest.raises(UserError, match="column 0, row 0 of the scene"),
        RowBlender(plan, 0, CLASSES, path, False) as blender,
    ):
        blender.add(first, broken, np.ones((32, 32), bool))
    with pytest.raises(ValueError, match="1 of"), RowBlender(plan, 0, CLASSES, path, False) as blender:
        blender.add(first, None, np.zeros((32, 32), bool))
    assert [entry.name for entry in tmp_path.iterdir()] == ["row"]
    assert path.read_text(encoding="utf-8") == "before"


def test_a_wrong_file_is_one_line(tmp_path: Path) -> None:
    plan = PLANS[0]
    logits, valid = tile_logits(plan), some_valid(plan)
    paths = write_rows(plan, logits, valid, tmp_path)
    with pytest.raises(UserError, match=r"row0\.bin does not belong"):
        next(class_blocks(plan, paths, CLASSES, False))
    paths[0].write_bytes(paths[0].read_bytes()[:-1])
    with pytest.raises(UserError, match="incomplete"):
        next(class_blocks(plan, paths, CLASSES, True))
    paths[0].unlink()
    with pytest.raises(UserError, match="cannot be read"):
        next(class_blocks(plan, paths, CLASSES, True))


def test_more_classes_than_a_byte_holds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="256 classes; a class map holds 255"):
        RowBlender(PLANS[0], 0, 256, tmp_path / "row", False)
    assert not list(tmp_path.iterdir())


def test_of_equal_logits_the_first_class_counts() -> None:
    logits = np.array([1.0, 3.0, 3.0, 2.0], np.float32).reshape(4, 1, 1)
    assert classify(logits, False)[0].item() == 1
    assert classify(np.zeros((255, 1, 1), np.float32), True)[1].item() == 1  # 0 means no data


def flips(labels: NDArray[np.uint8], borders: NDArray[np.bool_]) -> float:
    """Class changes between neighbours along x near borders, over the rate elsewhere."""
    changes = labels[:, 1:] != labels[:, :-1]
    near = borders[1:] | borders[:-1]
    return changes[:, near].mean() / changes[:, ~near].mean()


def test_there_are_no_seams(tmp_path: Path) -> None:
    """A model that errs more towards the borders of its tiles, each tile in its own way."""
    plan = TilePlan(height=64, width=1000, tile=128, overlap=48)
    random = np.random.default_rng(5)
    y, x = np.mgrid[: plan.height, : plan.width]
    waves = [(random.uniform(0.05, 0.25, 2), random.uniform(0, 6, 2)) for _ in range(4)]
    truth = np.stack([np.sin(f[0] * x + p[0]) + np.sin(f[1] * y + p[1]) for f, p in waves]).astype(np.float32)
    logits = {}
    for tile in plan:
        inside = np.minimum(np.arange(tile.width) + 0.5, tile.width - np.arange(tile.width) - 0.5)
        error = random.normal(0, 2.5, (4, 1, 1)) * np.exp(-inside / 12)
        logits[tile.row, tile.column] = (truth[:, :, tile.left : tile.left + tile.width] + error).astype(np.float32)
    valid = np.ones((plan.height, plan.width), bool)
    labels, _ = whole(plan, list(class_blocks(plan, write_rows(plan, logits, valid, tmp_path), 4, True)))

    columns = np.arange(plan.width)
    trimmed = np.empty_like(labels)
    cuts = [(right + plan.tile + left) // 2 for right, left in itertools.pairwise(plan.lefts)]
    for tile, start, stop in zip(plan.row(0), [0, *cuts], [*cuts, plan.width], strict=True):
        part = logits[0, tile.column][:, :, start - tile.left : stop - tile.left]
        trimmed[:, start:stop] = part.argmax(0)

    def close_to(places: list[int]) -> NDArray[np.bool_]:
        return np.abs(columns[:, None] - np.array(places)).min(1) <= 8

    borders = close_to([*plan.lefts[1:], *(left + plan.tile for left in plan.lefts[:-1])])
    assert flips(labels, borders) <= 1.2
    assert flips(labels, close_to(cuts)) <= 1.2
    assert flips(trimmed, close_to(cuts)) > flips(labels, borders)
