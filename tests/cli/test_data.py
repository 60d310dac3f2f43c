"""`distill data`: prepare, verify, preview."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.cli import main
from tests.data.published import hrsid_coco, nwpu_texts


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


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
    assert any("left out 1, all listed in manifest.json" in line and "003.txt" in line for line in lines(capsys))


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


def test_actions_are_named_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["prepare"], ["verify"], ["preview"]):
        with pytest.raises(SystemExit) as caught:
            main(["data", *words, "--help"])
        assert caught.value.code == 0
    assert "prepare" in capsys.readouterr().out
