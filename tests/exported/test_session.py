"""Files that cannot be opened or run are one line that names them."""

import sys
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import onnx
import pytest

from distill.errors import UserError
from distill.exported.facts import EXTRA_FILE
from distill.exported.models import open_model
from distill.exported.pt2_program import OPERATORS_FILE
from distill.exported.session import open_session
from distill.exporters.openvino_file import write_openvino
from tests.exported.small_files import PLANES, write_planes


def test_outputs_have_their_names(tmp_path: Path) -> None:
    session = open_session(write_planes(tmp_path / "a.onnx"), threads=1)
    image = np.random.default_rng(0).random((1, 3, 16, 24), np.float32)
    assert np.array_equal(session.run(image, (16, 24))["probabilities"], image[:, :2])
    with pytest.raises(UserError, match=r"a.onnx fails on an image of 24x16: "):
        session.run(image[0], (16, 24))


@pytest.mark.parametrize("size", [(16, 8), (20, 24)])
def test_sizes_that_a_file_does_not_take(size: tuple[int, int], tmp_path: Path) -> None:
    """Of two strides of 8 px at least: a runtime may compute others wrongly without a word."""
    source = write_planes(tmp_path / "a.onnx")
    write_openvino(source, PLANES, tmp_path / "a.xml")
    for path in (source, tmp_path / "a.xml"):
        session = open_session(path, threads=1)
        height, width = size
        message = rf"does not take an image of {width}x{height}: its sides are 16 px or more, in multiples of 8; pad it"
        with pytest.raises(UserError, match=message):
            session.run(np.zeros((1, 3, *size), np.float32), size)


def test_a_missing_file_and_another_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no file .*a\.onnx"):
        open_session(tmp_path / "a.onnx")
    with pytest.raises(UserError, match=r"a\.txt is no exported file; their names end in .onnx, .xml, .pt2"):
        open_session(tmp_path / "a.txt")


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_broken_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"broken" * 30)
    with pytest.raises(
        UserError, match=r"a\.(onnx cannot be opened|pt2 is no `.pt2` file or is damaged).*; export it again"
    ):
        open_session(path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [("no weights", "Empty weights data in bin file"), ("cut off", "Error parsing"), ("another image", "incompatible")],
)
def test_openvino_says_why(tmp_path: Path, damage: str, said: str) -> None:
    pytest.importorskip("openvino")
    path = tmp_path / "a.xml"
    write_openvino(write_planes(tmp_path / "a.onnx"), PLANES, path)
    if damage == "no weights":
        path.with_suffix(".bin").unlink()
    if damage == "cut off":
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=rf"a\.xml (cannot be opened|fails on an image of 16x16): .*{said}"):
        open_session(path).run(np.zeros((1, 1, 16, 16), np.float32), (16, 16))


@pytest.mark.parametrize("operators", ["{", "3", "[3]"])
def test_a_program_with_damaged_names_of_operators(tmp_path: Path, operators: str) -> None:
    with ZipFile(tmp_path / "a.pt2", "w") as archive:
        archive.writestr(f"a/extra/{EXTRA_FILE}", PLANES.to_json())
        archive.writestr(f"a/extra/{OPERATORS_FILE}", operators)
    with pytest.raises(UserError, match=r"operators inside .*a\.pt2 are damaged; export it again"):
        open_session(tmp_path / "a.pt2")


def test_a_foreign_file(tmp_path: Path) -> None:
    path = write_planes(tmp_path / "a.onnx")
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    with pytest.raises(UserError, match=r"a\.onnx is no file of `distill export`"):
        open_session(path)


def test_a_library_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_planes(tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"needs onnxruntime, which is not installed: pip install 'distill-rs\[onnx\]'"):
        open_session(path)


def test_a_student_finds_nothing(tmp_path: Path) -> None:
    path = write_planes(tmp_path / "a.onnx", kind="features", task="features")
    with pytest.raises(UserError, match="gives the feature maps of a student and no classes"):
        open_model(path)
