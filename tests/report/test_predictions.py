"""The figure of a test's pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.report.figures import save
from distill.report.pictures.drawing import Drawing
from distill.report.pictures.write import write_pictures
from distill.report.predictions import predictions_figure


def drawing(name: str, height: int, width: int, exact: tuple[str, ...] = ()) -> Drawing:
    parts = {
        part: np.full((height, width, 3), 50 * i, np.uint8) for i, part in enumerate(("input", "truth", "prediction"))
    }
    captions = {"truth": "2 objects", "prediction": "no instance"}
    return Drawing(name, parts, captions, {"ship": "#ff5a5f"}, exact)


def test_the_figure_shows_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.report.figures._DOTS", 110)  # as without tests/conftest.py
    exact = ("input", "truth", "prediction")
    shown = write_pictures(tmp_path / "p", "test", 7, [drawing("$a$.png", 10, 20, exact), drawing("b.png", 30, 15)])
    assert {path.suffix for path in shown.pictures[0].parts.values()} == {".png"}
    assert {path.suffix for path in shown.pictures[1].parts.values()} == {".jpg"}
    figure = predictions_figure(shown)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:3] == ["$a$.png", "ground truth: 2 objects", "prediction: no instance"]
    for axes, grey in zip(figure.axes[:3], (0, 50, 100), strict=True):
        pixels = np.asarray(axes.images[0].get_array())
        assert pixels.shape == (10, 20, 3)
        assert (pixels == grey).all()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ship"]
    save(figure, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as written:
        assert 1100 < written.width < 1200


def test_pictures_are_replaced_whole(tmp_path: Path) -> None:
    place = tmp_path / "p"
    write_pictures(place, "test", 1, [drawing("a", 4, 4), drawing("b", 4, 4)])
    write_pictures(place, "test", 2, [drawing("a", 4, 4)])
    assert len(list(place.iterdir())) == 4


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    broken = Drawing("b", {"input": np.zeros((2, 2, 7), np.uint8)}, {})
    with pytest.raises(TypeError):
        write_pictures(tmp_path / "p", "test", 1, [drawing("a", 4, 4), broken])
    assert not (tmp_path / "p").exists()


def test_no_class_at_all(tmp_path: Path) -> None:
    parts = {part: np.zeros((4, 4, 3), np.uint8) for part in ("input", "truth", "prediction")}
    save(predictions_figure(write_pictures(tmp_path / "p", "test", 1, [Drawing("a", parts, {})])), tmp_path / "a.png")
