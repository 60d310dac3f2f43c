"""Formats of `distill export`, and what runs them."""

from collections.abc import Sequence

from distill.errors import unknown_name

ONNX, OPENVINO, PT2, SAFETENSORS, DEEPNESS = "onnx", "openvino", "pt2", "safetensors", "deepness"
FORMATS = {ONNX: "onnxruntime", OPENVINO: "OpenVINO", PT2: "PyTorch", SAFETENSORS: "distill.load", DEEPNESS: "QGIS"}
SUFFIXES = {ONNX: ".onnx", OPENVINO: ".xml", PT2: ".pt2"}  # of the file that is opened


def known_formats(given: str | Sequence[str]) -> list[str]:
    """One or several formats, each once.

    Raises:
        UserError: There is no such format.
    """
    names = [given] if isinstance(given, str) else list(given)
    for name in names:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
    return list(dict.fromkeys(names))
