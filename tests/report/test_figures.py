import warnings
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from pycocotools import mask as rle

from distill.data.masks import decode_mask
from distill.errors import UserError
from distill.report.class_tables import matrix_figure
from distill.report.figures import CLASS_COLOURS, class_colour, pca_colours, save


def test_pca_shows_equal_maps_equally() -> None:
    torch.manual_seed(0)
    reference = torch.randn(2, 8, 5, 7)
    first, same, other = pca_colours(reference, [reference.clone(), torch.randn(2, 5, 3, 3)])
    assert first.shape == (2, 5, 7, 3)
    assert torch.equal(first, same)
    assert other.shape == (2, 3, 3, 3)
    assert 0 <= float(other.min()) <= float(other.max()) <= 1


def test_every_form_of_coco_segmentation_is_decoded() -> None:
    mask = np.zeros((6, 9), dtype=np.uint8, order="F")
    mask[1:4, 2:7] = 1
    compressed = rle.encode(mask)
    runs = [0] if mask.ravel(order="F")[0] else []
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs += np.diff([0, *edges.tolist(), flat.size]).tolist()
    forms = [compressed, {"size": [6, 9], "counts": runs}, [[2, 1, 7, 1, 7, 4, 2, 4]]]
    for form in forms:
        assert np.array_equal(decode_mask(form, 6, 9), mask)


def test_every_class_has_a_colour_of_its_own() -> None:
    """By CIE76, with the conversion of OpenCV; 2.3 is what can just be seen."""
    colours = np.array([mpl.colors.to_rgb(class_colour(label)) for label in range(len(CLASS_COLOURS))], np.float32)
    lab = cv2.cvtColor(colours[None], cv2.COLOR_RGB2LAB)[0]
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 1000 * np.eye(len(lab))
    assert distances.min() > 30
    assert len({class_colour(label) for label in range(100)}) == 100


def test_figures_are_written_whole(tmp_path: Path) -> None:
    figure = Figure()
    figure.subplots()
    save(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 1


def test_dollar_signs_are_no_formulas(tmp_path: Path) -> None:
    names = ["$_ship_$", "a $1 $2", r"$\nothing$"]
    figure = matrix_figure(np.eye(3, dtype=np.int64), names, names, lambda count, share: "$_$", "$_title_$")
    axes = figure.axes[0]
    axes.plot([0, 1], label="$_legend_$")
    axes.text(0, 0, "$_text_$")
    axes.yaxis.set_major_formatter(lambda value, position: "$_tick_$")
    figure.legend()
    save(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()


def test_characters_that_the_font_lacks_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    figure = Figure()
    figure.subplots().set_title("船舶 船")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(figure, tmp_path / "a.png")
    (message,) = caplog.messages
    assert message.endswith("a.png shows boxes for what its font lacks: 船舶")


def test_a_figure_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        save(Figure(), tmp_path / "file/a.png")
