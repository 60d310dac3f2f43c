"""The tiles of a run follow from its training images."""

from types import SimpleNamespace
from typing import Any

import pytest

from distill.launch.tile_defaults import tile_size
from distill.runs.folder import RunState
from distill.scene.options import PredictOptions
from distill.scene.tile_size import TileSize

FACTS = {"image_side": 800, "largest_side": 1000, "object_side": 100}


class Run:
    """What of a run is looked at."""

    def __init__(self, window: int | None = None, **data: Any) -> None:
        self.recipe = {"model": {"init_args": {"window": window}}}
        self.data, self.image_size = data, 512
        self.folder = SimpleNamespace(state=RunState.FINISHED)


@pytest.mark.parametrize(
    ("facts", "options", "expected"),
    [
        (FACTS, {}, TileSize(800, 150, 1000)),
        (FACTS | {"object_side": 20}, {}, TileSize(800, 100, 1000)),  # an eighth at least
        (FACTS | {"object_side": 900}, {}, TileSize(800, 400, 1000)),  # half at most
        (FACTS, {"tile": 400}, TileSize(400, 150, 0)),
        (FACTS, {"tile": 400, "overlap": 0}, TileSize(400, 0, 0)),
        (FACTS, {"overlap": 7}, TileSize(800, 7, 1000)),
        ({}, {}, TileSize(512, 128, 0)),
    ],
)
def test_of_instances(facts: dict[str, Any], options: dict[str, int], expected: TileSize) -> None:
    size, notes = tile_size(Run(), facts, PredictOptions(**options))  # type: ignore[arg-type]
    assert size == expected
    assert any("does not tell how large" in note for note in notes) == (not facts)
    largest = max(size.tile, size.whole)
    shrunk = f"images of up to {largest} px are scaled to 512 px, the data.image_size of the training"
    assert (shrunk in notes) == (largest > 512)


def test_of_whole_images_that_are_larger_than_tiles() -> None:
    said = TileSize(480, 0, 1000).shrunk(512)
    assert said == "images of up to 1000 px are scaled to 512 px, the data.image_size of the training"
    assert TileSize(480, 0, 512).shrunk(512) is None


def test_a_run_that_was_stopped_is_told() -> None:
    run = Run()
    run.folder.state = RunState.INTERRUPTED
    (note,) = tile_size(run, {}, PredictOptions())[1]  # type: ignore[arg-type]
    assert note.startswith("the run, because it was stopped, does not tell how large its training images are")


def test_of_land_cover() -> None:
    facts = {"image_side": 1024, "largest_side": 1024}
    assert tile_size(Run(zoom=2.0), facts, PredictOptions())[0] == TileSize(256, 64, 1024)  # type: ignore[arg-type]
    size, notes = tile_size(Run(768, zoom=1.0), facts, PredictOptions())  # type: ignore[arg-type]
    assert (size, notes) == (TileSize(768, 192, 1024), []), "no pixel is lost"


def test_an_image_of_training_size_is_one_tile() -> None:
    size = TileSize(800, 150, 1000)
    assert [len(size.plan(*side)) for side in ((1000, 900), (800, 20), (1001, 900))] == [1, 1, 4]
    plan = size.plan(900, 1000)
    assert (plan.row(0)[0].height, plan.row(0)[0].width) == (900, 1000)
