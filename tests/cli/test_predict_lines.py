"""What `distill predict` prints at its end."""

import dataclasses
from pathlib import Path

import pytest

from distill.cli.predict_lines import print_prediction
from distill.launch.predict import Prediction
from distill.scene.summary import SceneSummary

EMPTY = SceneSummary("a", "a.tif", 10, 10, None, None, 1, 1, 0, {}, {}, 0, None, (), (), 0.0)


def printed(capsys: pytest.CaptureFixture[str], *scenes: SceneSummary) -> str:
    print_prediction(Prediction(Path("out"), scenes, (), (), ("land", "water"), ()))
    return capsys.readouterr().out


def test_shares_of_several_scenes_count_their_pixels_with_data(capsys: pytest.CaptureFixture[str]) -> None:
    land = dataclasses.replace(EMPTY, shares={"land": 1.0, "water": 0.0}, data_pixels=10)
    water = dataclasses.replace(EMPTY, shares={"land": 0.0, "water": 1.0}, data_pixels=90)
    assert "land 10.0 %, water 90.0 %" in printed(capsys, land, water, EMPTY)
    assert "no pixel holds data" in printed(capsys, EMPTY)


def test_objects_are_counted_over_all_scenes(capsys: pytest.CaptureFixture[str]) -> None:
    found = dataclasses.replace(EMPTY, counts={"land": 2, "water": 0})
    assert "4 objects: 4 land, 0 water" in printed(capsys, found, found)
