"""OpenVINO files compute what their ONNX files do in ONNX Runtime."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest

from distill.errors import UserError
from distill.exported.session import open_session
from distill.exporters.openvino_file import write_openvino
from tests.exported.small_files import LOGITS
from tests.exporters.small_graphs import write_network, write_pooling, write_softplus, write_unknown

SIZES = ((16, 16), (16, 24), (32, 16), (40, 48))
POINTS = [[0, 0, 0, 0], [5, 5, 5, 5], [9, 9, 3, 3], [3, 3, 9, 3]]
REGIONS = [*POINTS, [0, 0, 20, 20], [2, 3, 9.5, 30], [500, 500, 510, 510]]


def test_a_network_at_four_sizes(tmp_path: Path) -> None:
    source, path = tmp_path / "a.onnx", tmp_path / "out" / "a.xml"
    facts = write_network(source)
    write_openvino(source, facts, path)
    assert sorted(one.name for one in path.parent.iterdir()) == ["a.bin", "a.xml"], "no scratch folder is left"
    expected, found = open_session(source, threads=1), open_session(path, threads=1)
    assert found.facts == facts
    for height, width in SIZES * 2:  # the second time, it is compiled for the size
        image = np.random.default_rng(height).random((1, 3, height, width), np.float32)
        outputs = [session.run(image, (height, width))["logits"] for session in (expected, found)]
        assert np.abs(outputs[0] - outputs[1]).max() < 1e-5
        assert np.abs(outputs[0]).max() > 0.1


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_zeros_are_pooled_from_regions_without_extent(tmp_path: Path, precision: str) -> None:
    source, path = tmp_path / "a.onnx", tmp_path / "a.xml"
    write_pooling(source, np.array(REGIONS, np.float32))
    write_openvino(source, LOGITS, path)
    runtime = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    for height, width in SIZES:
        image = np.random.default_rng(width).random((1, 3, height, width), np.float32)
        (expected,), found = runtime.run(None, {"image": image}), compiled({"image": image})[0]
        assert np.abs(found - expected).max() < (1e-5 if precision == "f32" else 0.1)
        assert not found[: len(POINTS)].any()
        assert found[len(POINTS)].any()


def test_softplus_of_small_and_large_values_is_exact(tmp_path: Path) -> None:
    source, path = tmp_path / "a.onnx", tmp_path / "a.xml"
    write_softplus(source)
    write_openvino(source, LOGITS, path)
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    image = np.linspace(-80, 80, 3 * 64 * 64, dtype=np.float32).reshape(1, 3, 64, 64)
    found, expected = compiled({"image": image})[0], np.logaddexp(0, image.astype(np.float64))
    assert np.abs(found / expected - 1).max() < 1e-6  # 2e-2 at -10, and 1 at -20, of OpenVINO's own


def test_an_operator_that_openvino_lacks_is_one_line(tmp_path: Path) -> None:
    write_unknown(tmp_path / "a.onnx")
    with pytest.raises(UserError, match=r"OpenVINO 20\d\d\.\S+ cannot convert the model: .*Wavelet") as caught:
        write_openvino(tmp_path / "a.onnx", LOGITS, tmp_path / "a.xml")
    assert "\n" not in str(caught.value)
    assert [one.name for one in tmp_path.iterdir()] == ["a.onnx"]


def test_without_openvino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(
        UserError, match=r"openvino files need the package openvino: pip install 'distill-rs\[openvino\]'"
    ):
        write_openvino(tmp_path / "a.onnx", LOGITS, tmp_path / "a.xml")
