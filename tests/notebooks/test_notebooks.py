"""The notebooks run from the first cell to the last, on small data and without a kernel."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest

import distill
from distill.synthetic.scenes import write_scenes
from tests.small_recipes import fine_tuning

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def cells(name: str) -> list[dict[str, Any]]:
    return list(json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"])


def run(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Runs the code of a notebook with other settings, which must be among its own; returns its variables."""
    variables: dict[str, Any] = {"__name__": "__notebook__"}
    for index, cell in enumerate(cells(name)):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{name}, cell {index}", "exec"), variables)
            if "parameters" in cell["metadata"].get("tags", []):
                assert settings.keys() <= variables.keys()
                variables |= settings
    return variables


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_stored_without_outputs_and_with_settings(path: Path) -> None:
    code = [cell for cell in cells(path.stem) if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert ["parameters" in cell["metadata"].get("tags", []) for cell in code] == [True] + [False] * (len(code) - 1)
    assert len({cell["id"] for cell in cells(path.stem)}) == len(cells(path.stem))


def test_compare_three_students(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {}
    for split, count in {"train": 4, "val": 2}.items():
        folder = write_scenes(tmp_path / "data", split, count, 64)
        files |= {f"{split.upper()}_IMAGES": folder / "images"}
        files |= {f"{split.upper()}_ANNOTATIONS": folder / "annotations.json"}
    small = {"IMAGE_SIZE": 64, "STEPS": 1, "BATCH_SIZE": 1, "WORKERS": 0}
    found = run("compare_three_students", files | small)
    assert list(found["runs"]) == ["rs4d_tiny", "lale_s1", "efficientvit_b0"]
    assert (tmp_path / "runs/three_students/compare/compare.html").is_file()
    assert "RS4D" in capsys.readouterr().out


def test_predict_a_scene_on_a_map(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = fine_tuning(scenes, tmp_path / "run")
    recipe["model"]["init_args"]["head"]["init_args"] |= {"score_threshold": 0.0, "max_detections": 5}
    recipe["trainer"] |= {"max_steps": 1, "limit_val_batches": 0, "logger": False}
    distill.fit(recipe)
    found = run("predict_scene_on_map", {"RUN": str(tmp_path / "run"), "SCORE": 0.0, "TILE": 192})
    assert len(found["polygons"]) == len(found["features"]) == sum(found["scene"].counts.values()) > 0
    assert all(500_000 <= polygon.centroid.x <= 500_128 for polygon in found["polygons"])
    assert "N  15.0" in capsys.readouterr().out  # degrees east


def test_without_a_run_there_is_one_line() -> None:
    with pytest.raises(SystemExit, match="distill demo"):
        run("predict_scene_on_map", {"RUN": "nowhere"})
