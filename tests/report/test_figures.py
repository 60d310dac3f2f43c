import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from distill.errors import UserError
from distill.report.class_tables import matrix_figure
from distill.report.figures import save


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
