"""`distill data`: prepare, verify, preview."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.cli import main
from tests.curate.checking import ship_images
from tests.data.published import coco, hrsid_coco, nwpu_texts, save, scene, write_json


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


@pytest.fixture
def _full_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheets whose pixels are looked at are not as small as other figures of the tests."""
    monkeypatch.setattr("distill.report.figures._DOTS", 110)


@pytest.mark.usefixtures("_full_size")
def test_prepare_twice_verify_preview(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hrsid_coco(tmp_path / "source")
    monkeypatch.chdir(tmp_path)
    assert main(["data", "prepare", "hrsid", "--source", "source"]) == 0
    out = lines(capsys)
    assert out[0] == "wrote data/hrsid from COCO"
    assert "  annotations/train.json  2 images, 2 objects" in out
    assert main(["data", "prepare", "hrsid", "--source", "source"]) == 0
    assert lines(capsys) == ["data/hrsid is up to date: 5 files match manifest.json; nothing to do"]
    for name in ("hrsid", "data/hrsid", "data/hrsid/annotations/train.json"):
        assert main(["data", "verify", name]) == 0
        out = lines(capsys)
        assert any(line.startswith("ship") for line in out)
        assert out[-1].startswith("0 errors, 0 warnings")
    assert main(["data", "preview", "hrsid", "--output", "sheet.png", "--part", "test"]) == 0
    assert lines(capsys) == ["wrote sheet.png"]
    sheet = np.asarray(Image.open("sheet.png").convert("RGB"))
    assert (sheet == (255, 90, 95)).all(axis=2).sum() > 50  # the box and the name, in the colour of the first class


def test_prepare_lists_what_it_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = nwpu_texts(tmp_path / "source")
    next(source.rglob("ground truth/003.txt")).write_text("nonsense")
    arguments = ["data", "prepare", "nwpu", "--source", str(source), "--target", str(tmp_path / "nwpu")]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "003.txt" in error
    assert error.count("\n") == 1
    assert main([*arguments, "--on-error", "skip"]) == 0
    left_out = "left out 1 (annotation file: 1), all listed in manifest.json"
    assert any(left_out in line and "003.txt" in line for line in lines(capsys))


def test_verify_reports_problems_with_code_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "hrsid"
    arguments = ["--source", str(hrsid_coco(tmp_path / "source")), "--target", str(root)]
    assert main(["data", "prepare", "hrsid", *arguments]) == 0
    (root / "images/P0003.jpg").unlink()
    capsys.readouterr()
    assert main(["data", "verify", str(root)]) == 0
    out = "\n".join(lines(capsys))
    assert "error  test: 1 of 1 images are missing or cannot be decoded. Copy them to" in out
    assert "error  1 file not as `distill data prepare` wrote them. Prepare the data set again" in out
    assert main(["data", "verify", str(root), "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert [part["images"] for part in report["parts"]] == [1, 2]
    assert {finding["level"] for finding in report["findings"]} >= {"error"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["verify", "nowhere"], "'nowhere' does not exist"),
        (["prepare", "sddd", "--source", "."], "did you mean ssdd"),
        (["prepare", "ssdd", "--source", "nowhere"], "--source 'nowhere' does not exist"),
        (["preview", "nowhere", "--output", "a.png"], "'nowhere' does not exist"),
        (["preview", "nowhere", "--output", "a.jpg"], "must end in .png"),
        (["preview", "nowhere", "--output", "a.png", "--count", "0"], "--count is 0"),
        (["preview", "nowhere", "--output", "a.png", "--seed", "-1"], "--seed is -1; it must be 0 or more"),
        (["verify", ".", "--images", "nowhere"], "--images 'nowhere' does not exist"),
    ],
)
def test_unusable_input_is_one_line_and_code_2(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", *words]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


def test_preview_without_a_readable_image_and_of_an_unknown_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "hrsid"
    arguments = ["--source", str(hrsid_coco(tmp_path / "source")), "--target", str(root)]
    assert main(["data", "prepare", "hrsid", *arguments]) == 0
    preview = ["data", "preview", str(root), "--output", str(tmp_path / "a.png")]
    assert main([*preview, "--part", "tset"]) == 2
    assert "did you mean test" in capsys.readouterr().err
    for path in (root / "images").iterdir():
        path.write_bytes(b"")
    assert main(preview) == 2
    assert "run distill data verify" in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()


@pytest.fixture
def ships(tmp_path: Path) -> Path:
    return ship_images(tmp_path / "ships")


def test_preview_of_chosen_images(ships: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "a.png"
    preview = ["data", "preview", str(ships), "--output", str(sheet)]
    assert main([*preview, "--image", "3.png"]) == 0
    one = np.asarray(Image.open(sheet).convert("RGB"))
    assert main([*preview, "--image", "3.png", "5.png"]) == 0
    assert np.asarray(Image.open(sheet)).shape != one.shape
    capsys.readouterr()
    assert main([*preview, "--image", "3.pgn"]) == 2
    error = capsys.readouterr().err
    assert "--image '3.pgn' is no file_name in" in error
    assert "did you mean 3.png" in error
    (ships / "images/3.png").write_bytes(b"")
    assert main([*preview, "--image", "3.png"]) == 2
    assert "3.png' is an empty file" in capsys.readouterr().err


def test_preview_names_what_it_passes_over(
    ships: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    (ships / "images/2.png").write_bytes(b"")
    save(scene(4, 20, 20), ships / "images/4.png")
    assert main(["data", "preview", str(ships), "--output", str(tmp_path / "a.png")]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'a.png'}\n"
    (message,) = caplog.messages
    assert message.startswith("left out 2 that cannot be drawn: ")
    assert "2.png' is an empty file" in message
    assert "4.png' is 20x20, but its annotations say 64x48" in message


def test_preview_of_names_with_dollar_signs(tmp_path: Path) -> None:
    save(scene(0), tmp_path / "images/img_$1_$2.png")
    write_json(coco(["img_$1_$2.png"], 1, category="$_ship_$"), tmp_path / "annotations/part.json")
    assert main(["data", "preview", str(tmp_path), "--output", str(tmp_path / "a.png")]) == 0


def test_preview_into_a_place_that_cannot_be_written(
    ships: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["data", "preview", str(ships), "--output", str(tmp_path / "file/a.png")]) == 2
    error = capsys.readouterr().err
    assert "a.png cannot be written" in error
    assert error.count("\n") == 1


def test_a_report_in_a_file_is_not_cut(ships: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "instances_train_of_a_part_with_a_long_name"
    shutil.copy(ships / f"annotations/{name}.json", ships / f"annotations/{name}_as_well.json")
    assert main(["data", "verify", str(ships)]) == 0
    out = lines(capsys)
    assert any(line.startswith(f"{name}_as_well  ") for line in out)
    assert any(f"{name}: objects (images)" in line and f"{name}_as_well: objects (images)" in line for line in out)


def test_files_make_one_report_and_folders_one_each(
    ships: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(coco(["2.png"], 1), ships / "annotations/val.json")
    files = sorted(map(str, ships.glob("annotations/*.json")))
    assert main(["data", "verify", *files, str(ships), "--json"]) == 0
    folder, together = json.loads(capsys.readouterr().out)
    assert (folder["root"], together["root"]) == (str(ships), ", ".join(files))
    for report in (folder, together):
        assert len(report["parts"]) == 2
        assert [found["check"] for found in report["findings"] if found["check"] == "split overlap"]


@pytest.mark.usefixtures("_full_size")
def test_land_cover_by_its_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("train", "val"):
        for number in range(2):
            save(scene(number + 5 * (part == "val")), tmp_path / f"{part}/images/{number}.png")
            save(Image.fromarray(np.eye(48, 64, dtype=np.uint8)), tmp_path / f"{part}/masks/{number}.png")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "data:\n  class_path: distill.data.SemanticFolder\n  init_args: {root: nowhere, classes: {land: 0, line: 1}}\n"
    )
    assert main(["data", "verify", str(recipe), "--root", str(tmp_path)]) == 0
    out = lines(capsys)
    assert out[1].split() == ["class", "train:", "pixels", "(2", "images)", "val,", "test:", "pixels", "(2", "images)"]
    assert out[-1] == "0 errors, 0 warnings, 0 notes"
    sheet = tmp_path / "sheet.png"
    assert main(["data", "preview", str(recipe), "--root", str(tmp_path), "--output", str(sheet), "--part", "val"]) == 0
    drawn = np.asarray(Image.open(sheet).convert("RGB"))
    assert (drawn == (46, 196, 182)).all(axis=2).sum() > 50  # the second class in the legend
    assert main(["data", "verify", str(recipe)]) == 2
    assert "does not exist; check data.root" in capsys.readouterr().err
    assert main(["data", "verify", str(tmp_path / "train"), "--root", str(tmp_path)]) == 2
    assert "belongs to a recipe" in capsys.readouterr().err


def test_a_run_is_looked_at_from_another_folder(
    ships: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"train_images": ships / "images", "train_annotations": next(ships.rglob("*.json"))}
    arguments = {key: str(path.relative_to(tmp_path)) for key, path in files.items()}
    data = {"class_path": "distill.data.CocoInstances", "init_args": arguments}
    write_json({"data": data}, tmp_path / "run/recipe.yaml")
    write_json({"started_in": str(tmp_path)}, tmp_path / "run/environment.json")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["data", "verify", str(tmp_path / "run")]) == 0
    assert lines(capsys)[-1].startswith("0 errors")
