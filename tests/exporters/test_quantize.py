"""int8 files: which weights are 8-bit numbers, what they compute, and what cannot be quantised."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest

from distill.errors import UserError
from distill.exported.facts import INT8
from distill.exported.session import open_session
from distill.exporters import quantize as quantizing
from distill.exporters.calibration import calibration_inputs
from distill.exporters.openvino_file import write_openvino
from distill.exporters.quantize import quantize
from distill.scene.tile_size import TileSize
from tests.exported.small_files import PLANES
from tests.exporters.small_graphs import write_network

TILES = [np.random.default_rng(number).integers(0, 256, (3, 32, 40), np.uint8) for number in range(4)]


def int8_weights_of_onnx(path: Path) -> set[tuple[int, ...]]:
    model = onnx.load(path)
    stored = {one.name: one for one in model.graph.initializer}
    sources = [node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"]
    return {tuple(stored[name].dims) for name in sources if name in stored and stored[name].data_type == 3}


def int8_weights_of_openvino(path: Path) -> set[tuple[int, ...]]:
    constants = [one for one in openvino.Core().read_model(path).get_ops() if one.get_type_name() == "Constant"]
    return {tuple(one.shape) for one in constants if one.get_element_type() == openvino.Type.i8 and len(one.shape) > 3}


@pytest.mark.parametrize(
    ("suffix", "weights", "first", "depthwise"),
    [
        (".onnx", int8_weights_of_onnx, (8, 3, 3, 3), (8, 1, 3, 3)),
        (".xml", int8_weights_of_openvino, (8, 3, 3, 3), (8, 1, 1, 3, 3)),
    ],
)
def test_layers_in_int8(
    tmp_path: Path, suffix: str, weights: Callable[[Path], set[tuple[int, ...]]], first: tuple, depthwise: tuple
) -> None:
    source, out = tmp_path / "a.onnx", tmp_path / f"b{suffix}"
    facts = write_network(source)
    if suffix == ".xml":
        write_openvino(source, facts, tmp_path / "a.xml")
        source = tmp_path / "a.xml"
    found = quantize(source, TILES, facts, out)
    assert (found.path, found.layers, found.in_float, found.tiles) == (out, 2, 1, 4)
    assert weights(out) == {first, depthwise}, "the last layer is in float"
    sessions = [open_session(path, threads=1) for path in (source, out)]
    assert sessions[1].facts == replace(facts, precision=INT8)
    image = (TILES[0][None] / 255).astype(np.float32)
    exact, rounded = (session.run(image, (32, 40))["logits"] for session in sessions)
    assert 0 < np.abs(exact - rounded).max() < 0.1 * np.abs(exact).max()
    assert "all there are" in found.notes()[1]


def test_weights_use_seven_bits_where_sums_would_saturate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = write_network(tmp_path / "a.onnx")
    monkeypatch.setattr(quantizing, "has_vnni", lambda: False)
    found = quantize(tmp_path / "a.onnx", TILES, facts, tmp_path / "b.onnx")
    model = onnx.load(found.path)
    stored = [onnx.numpy_helper.to_array(one) for one in model.graph.initializer if one.data_type == 3]
    assert max(np.abs(one.astype(int)).max() for one in stored) == 64
    assert "7 bits" in found.notes()[-1]


def test_tiles_pass_through_the_view_of_the_run() -> None:
    facts = replace(PLANES, size=TileSize(20, 4, 0), image_size=32)
    inputs = list(calibration_inputs(TILES[:2], facts))
    assert [one["image"].shape for one in inputs] == [(1, 3, 32, 32)] * 2
    assert [one["size"].tolist() for one in inputs] == [[32, 32]] * 2, "one tile of each image, fitted into the view"


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    facts = write_network(tmp_path / "a.onnx")
    with pytest.raises(UserError, match="calibrated on training images of the run, of which there are none"):
        quantize(tmp_path / "a.onnx", [], facts, tmp_path / "b.onnx")
    with pytest.raises(UserError, match=r"a\.pt2 has no int8; export it with --format onnx or openvino"):
        quantize(tmp_path / "a.pt2", TILES, facts, tmp_path / "b.pt2")
