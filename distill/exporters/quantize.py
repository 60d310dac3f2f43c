"""int8: an exported file whose convolutions and linear layers multiply whole numbers.

Static and per channel of the weights, see `distill.exporters.int8_layers` for what stays in float. The ranges of
activations are those on training images of the run, which pass through its own bands, stretch and view.

Axes: H W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from distill.errors import UserError
from distill.evaluation.units import counted
from distill.exported.facts import INT8, ExportedFacts
from distill.exporters.calibration import calibration_inputs
from distill.processor import has_vnni
from distill.scene.detections import Pixels

ENOUGH = 300  # tiles


@dataclass(frozen=True)
class Quantized:
    """A file in int8.

    Attributes:
        path: The file.
        layers: How many layers have int8 weights.
        in_float: How many layers with weights stay in float.
        tiles: How many tiles it was calibrated on.
        half_range: Whether weights use half of the range, because this processor's sums would saturate.
    """

    path: Path
    layers: int
    in_float: int
    tiles: int
    half_range: bool

    def notes(self) -> list[str]:
        """Notes for the user."""
        notes = [
            f"{counted(self.layers, 'layer')} in int8, {self.in_float} in float; calibrated on "
            f"{counted(self.tiles, 'training tile')}"
        ]
        if self.tiles < ENOUGH:
            notes.append(f"that is all there are: {ENOUGH} make a steadier calibration")
        if self.half_range:
            notes.append("int8 weights use 7 bits, because this processor lacks VNNI: sums of 8 bits would saturate")
        else:
            notes.append("int8 weights use 8 bits: on an x86 processor without VNNI sums saturate, so export it there")
        return notes


def quantize(path: Path, tiles: Sequence[Pixels], facts: ExportedFacts, out: Path) -> Quantized:
    """Writes an exported file in int8.

    Args:
        path: An .onnx or an .xml of `distill export`, in float32.
        tiles: Training images, uint8 RGB (3, H, W); what is larger than a tile of the run counts by one of its tiles.
        facts: Of the file.
        out: The file to write, of the same kind.

    Raises:
        UserError: The kind of file has no int8, the library that quantises it is not installed, there are no tiles, no
            layer can be quantised, or the file cannot be written.
    """
    if not tiles:
        raise UserError("int8 is calibrated on training images of the run, of which there are none")
    calibration = partial(calibration_inputs, tiles, facts)
    facts = replace(facts, precision=INT8)
    half_range = not has_vnni()
    if path.suffix == ".onnx":
        from distill.exporters.quantize_onnx import quantize_onnx

        layers, in_float = quantize_onnx(path, calibration, half_range, facts, out)
    elif path.suffix == ".xml":
        from distill.exporters.quantize_openvino import quantize_openvino

        layers, in_float = quantize_openvino(path, calibration, len(tiles), half_range, facts, out)
    else:
        raise UserError(f"{path.name} has no int8; export it with --format onnx or openvino")
    return Quantized(out, layers, in_float, len(tiles), half_range)
