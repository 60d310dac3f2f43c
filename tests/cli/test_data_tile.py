"""`distill data tile`: what it prints, and one line for what it cannot do."""

from pathlib import Path

import pytest
from PIL import Image

from distill.cli import main
from tests.data.published import coco, save, scene, write_json


def test_instances_and_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(scene(0), Path("data/images/a.png"))
    write_json(coco(["a.png"], 1), Path("data/annotations/train.json"))
    words = [
        "data",
        "tile",
        "--annotations",
        "data",
        "--out",
        "tiles",
        "--tile",
        "32",
        "--overlap",
        "0",
        "--empty",
        "1",
    ]
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines() == [
        "wrote tiles",
        "  annotations/train.json  4 images; 1 objects; 0 truncated; 1 regions to ignore; 1 tiles; 3 empty tiles",
        "next: distill data verify tiles",
    ]
    assert main(words) == 0
    assert capsys.readouterr().out == "tiles is up to date: 5 files match manifest.json; nothing to do\n"
    save(Image.new("L", (64, 48), 3), Path("data/labels/a.png"))
    words = ["data", "tile", "--images", "data/images", "--labels", "data/labels", "--out", "cover", "--tile", "32"]
    assert main([*words, "--ignore", "255", "0"]) == 0
    assert capsys.readouterr().out.splitlines() == ["wrote cover", "  6 images; 6 labelled tiles"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labels", "x"], "--labels needs --images, the folder"),
        (["--annotations", "x", "--ignore", "1"], "--ignore is for the values of --labels"),
        (["--annotations", "x"], "'x' does not exist; give a data set's folder or a COCO file"),
        (["--labels", "x", "--images", "y", "--ignore", "1,2"], "--ignore '1,2' is neither a whole number such as 255"),
        (["--labels", "x", "--images", "y", "--min-visible", "40"], "--min-visible is 40; it is a share"),
    ],
)
def test_bad_words_are_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "tile", "--out", "out", "--tile", "32", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"distill: error: {message}")
    assert error.count("\n") == 1
