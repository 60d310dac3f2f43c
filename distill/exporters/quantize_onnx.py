"""int8 of ONNX files, by ONNX Runtime: operators between pairs that quantise and dequantise (QDQ)."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from distill.errors import UserError, first_line
from distill.exported.facts import METADATA_KEY, ExportedFacts
from distill.exporters.calibration import Calibration, Inputs
from distill.exporters.int8_layers import Node, quantized_layers
from distill.files import write_atomically

if TYPE_CHECKING:
    from onnx import ModelProto


_LAYERS = ("Conv", "MatMul", "Gemm")  # that ONNX Runtime has kernels for in int8, which it has none of ConvTranspose


def quantize_onnx(
    path: Path, calibration: Calibration, half_range: bool, facts: ExportedFacts, out: Path
) -> tuple[int, int]:
    """Writes an .onnx in int8. Arguments: see `distill.exporters.quantize`; `facts` are of the result.

    Returns:
        How many layers are in int8, and how many stay in float.

    Raises:
        UserError: A package of the extra `onnx` is not installed, ONNX Runtime refuses the model, or no layer can be
            quantised.
    """
    try:
        import onnx
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise UserError(f"int8 of onnx files needs the package {error.name}: pip install 'distill-rs[onnx]'") from error
    with tempfile.TemporaryDirectory() as folder:
        prepared, written = Path(folder, "prepared.onnx"), Path(folder, "int8.onnx")
        try:
            quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)  # folds norms into convolutions
            model = onnx.load(prepared)
            nodes = graph_nodes(model)
            layers = quantized_layers(nodes, [one.name for one in model.graph.output])
            if not layers:
                raise UserError(f"{path.name} has no layer that may be in int8")
            quantize_static(
                model,
                str(written),
                _Reader(calibration, {one.name for one in model.graph.input}),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(_LAYERS),
                per_channel=True,
                reduce_range=half_range,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=[_name_of(output) for output in layers],
            )
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{path.name} cannot be quantised: {first_line(error)}") from error
        model = onnx.load(written)
    onnx.helper.set_model_props(model, {METADATA_KEY: facts.to_json()})
    write_atomically(out, lambda temporary: temporary.write_bytes(model.SerializeToString()))
    return len(layers), sum(node.weighted for node in nodes.values()) - len(layers)


class _Reader:
    """A `CalibrationDataReader`, of which ONNX Runtime asks these two methods."""

    def __init__(self, calibration: Calibration, names: set[str]) -> None:
        self._calibration, self._names = calibration, names
        self.rewind()

    def rewind(self) -> None:
        """Starts again."""
        self._left: Iterator[Inputs] = self._calibration()

    def get_next(self) -> Inputs | None:
        """The next inputs; None after the last."""
        given = next(self._left, None)
        return None if given is None else {name: given[name] for name in self._names}


def graph_nodes(model: "ModelProto") -> dict[str, Node]:
    """The operations of a model, by the name of each of their outputs; gives every operation a name of its own."""
    constants = {one.name for one in model.graph.initializer}
    constants |= {output for node in model.graph.node if node.op_type == "Constant" for output in node.output}
    found: dict[str, Node] = {}
    for node in model.graph.node:
        node.name = _name_of(node.output[0])
        inputs = tuple("" if name in constants else name for name in node.input)
        weighted = node.op_type in _LAYERS and node.input[1] in constants
        found |= {output: Node(node.op_type, inputs, weighted) for output in node.output}
    return found


def _name_of(output: str) -> str:
    return f"of/{output}"
