"""Formats of `distill export`, and what runs them."""

from collections.abc import Sequence
from importlib.util import find_spec

from distill.errors import UserError, unknown_name

ONNX, OPENVINO, PT2, SAFETENSORS, DEEPNESS = "onnx", "openvino", "pt2", "safetensors", "deepness"
FORMATS = {ONNX: "onnxruntime", OPENVINO: "OpenVINO", PT2: "PyTorch", SAFETENSORS: "distill.load", DEEPNESS: "QGIS"}
# Packages that write and run a format, and the extra that brings them.
_ONNX_PACKAGES = dict.fromkeys(("onnx", "onnxscript", "onnxruntime"), "onnx")
_PACKAGES = {
    ONNX: _ONNX_PACKAGES,
    DEEPNESS: _ONNX_PACKAGES,
    OPENVINO: {"onnx": "onnx", "onnxscript": "onnx", "openvino": "openvino"},  # which is converted from ONNX
}
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


def require_packages(formats: Sequence[str], int8: bool = False) -> None:
    """Checks that what writes and runs the files is installed, without importing it.

    Args:
        formats: Known ones.
        int8: Whether they are quantised, too.

    Raises:
        UserError: A package is absent; the message names the extras that bring all that are.
    """
    for name in formats:
        needed = _PACKAGES.get(name, {}) | ({"nncf": "openvino"} if int8 and name == OPENVINO else {})
        missing = {package: extra for package, extra in needed.items() if find_spec(package) is None}
        if missing:
            packages = f"package{'s' if len(missing) > 1 else ''} {' and '.join(missing)}"
            extras = ",".join(dict.fromkeys(missing.values()))
            raise UserError(f"{name} files need the {packages}: pip install 'distill-rs[{extras}]'")
