"""Options of a prediction."""

from typing import Any

import pytest

from distill.errors import UserError
from distill.scene.options import PredictOptions


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tile": 8}, "tile is 8"),
        ({"overlap": -1}, "overlap is -1"),
        ({"tile": 64, "overlap": 64}, "smaller than the tile, which is 64"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"score": 1.5}, "score is 1.5"),
        ({"score": float("nan")}, "score is nan"),
        ({"bands": [0, 1, 2]}, "bands is [0, 1, 2]"),
        ({"bands": [1, 2, 3, 4]}, "one to three numbers"),
        ({"stretch": [5, 5]}, "a lower and a higher"),
        ({"gsd": 0}, "gsd is 0"),
        ({"simplify": -0.1}, "simplify is -0.1"),
        ({"min_area": float("inf")}, "min_area is inf"),
        ({"formats": ["geojsn"]}, "did you mean geojson?"),
    ],
)
def test_a_bad_value_is_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        PredictOptions(**given)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_formats_follow_the_task() -> None:
    assert PredictOptions().formats_of("instances", georeferenced=True) == ("coco", "gpkg")
    assert PredictOptions().formats_of("instances", georeferenced=False) == ("coco",)
    assert PredictOptions().formats_of("segmentation", georeferenced=True) == ("tif",)
    assert PredictOptions(formats="geojson").formats_of("segmentation", True) == ("geojson",)
    with pytest.raises(UserError, match="format tif is not one of a run of instances; give coco, gpkg, geojson"):
        PredictOptions(formats=["tif"]).formats_of("instances", True)
    with pytest.raises(UserError, match="confidence"):
        PredictOptions(confidence=True).formats_of("instances", True)
    with pytest.raises(UserError, match="classes"):
        PredictOptions(classes=["water"]).formats_of("segmentation", True)


def test_classes_are_those_of_the_model() -> None:
    assert PredictOptions().labels(["a", "b"]) == (0, 1)
    assert PredictOptions(classes=["b"]).labels(["a", "b"]) == (1,)
    with pytest.raises(UserError, match="unknown class 'shp': did you mean ship"):
        PredictOptions(classes=["shp"]).labels(["ship", "water"])
