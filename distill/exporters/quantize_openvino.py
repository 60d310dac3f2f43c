"""int8 of OpenVINO models, by NNCF."""

import logging
import os
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from distill.errors import UserError
from distill.exported.facts import ExportedFacts
from distill.exported.session import openvino_reason
from distill.exporters.calibration import Calibration
from distill.exporters.int8_layers import LAYERS, Node, quantized_layers
from distill.exporters.openvino_file import read_graph, save

if TYPE_CHECKING:
    from openvino import Model


_NO_OPERATIONS = ("Parameter", "Result", "Constant")


def quantize_openvino(
    path: Path, calibration: Calibration, tiles: int, half_range: bool, facts: ExportedFacts, out: Path
) -> tuple[int, int]:
    """Writes an .xml in int8. Arguments: see `distill.exporters.quantize`; `facts` are of the result.

    Returns:
        How many layers are in int8, and how many stay in float.

    Raises:
        UserError: NNCF is not installed or refuses the model, or no layer can be quantised.
    """
    os.environ.setdefault("NNCF_CI", "1")  # else it reports its use over the network
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # says that there is no GPU
    try:
        import nncf
    except ImportError as error:
        raise UserError(
            f"int8 of openvino files needs the package {error.name}: pip install 'distill-rs[openvino]'"
        ) from error
    nncf.set_log_level(logging.ERROR)
    model = read_graph(path)
    nodes = graph_nodes(model)
    outputs = [result.input_value(0).get_node().get_friendly_name() for result in model.get_results()]
    layers = set(quantized_layers(nodes, outputs))
    if not layers:
        raise UserError(f"{path.name} has no layer that may be in int8")
    ignored = [name for name, node in nodes.items() if name not in layers and node.kind not in _NO_OPERATIONS]
    names = {one.get_any_name() for one in model.inputs}
    data = nncf.Dataset([{name: given[name] for name in names} for given in calibration()])
    fix = nncf.OverflowFix.ENABLE if half_range else nncf.OverflowFix.DISABLE
    try:
        with redirect_stdout(StringIO()):  # its progress bars
            model = nncf.quantize(
                model,
                data,
                preset=nncf.QuantizationPreset.MIXED,  # asymmetric activations, which not every layer rectifies
                target_device=nncf.TargetDevice.CPU,
                subset_size=tiles,
                ignored_scope=nncf.IgnoredScope(names=ignored, validate=False),
                advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=fix),
            )
    except RuntimeError as error:
        raise UserError(f"{path.name} cannot be quantised: {openvino_reason(error)}") from error
    save(model, facts, out)
    return len(layers), sum(node.weighted for node in nodes.values()) - len(layers)


def graph_nodes(model: "Model") -> dict[str, Node]:
    """The operations of a model."""
    found = {}
    for node in model.get_ordered_ops():
        sources = [node.input_value(index).get_node() for index in range(node.get_input_size())]
        inputs = tuple("" if one.get_type_name() == "Constant" else one.get_friendly_name() for one in sources)
        kind = node.get_type_name()
        found[node.get_friendly_name()] = Node(kind, inputs, kind in LAYERS and inputs[1] == "")
    return found
