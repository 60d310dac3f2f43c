"""ONNX files of whole models: standard operators of opset 18, with what a runner must know inside."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from distill.errors import UserError
from distill.exported.facts import METADATA_KEY, ExportedFacts
from distill.exporters.graph import ExportGraph, refused_in_one_line
from distill.files import write_atomically

if TYPE_CHECKING:
    from onnx import ModelProto

_OPSET = 18


def write_onnx(graph: ExportGraph, facts: ExportedFacts, path: Path) -> None:
    """Writes a graph whose height and width vary, as multiples of its stride.

    Args:
        graph: In eval mode, on the CPU.
        facts: See `save_onnx`.
        path: See `save_onnx`.

    Raises:
        UserError: The packages of the extra `onnx` are absent, the graph cannot be written, or the place.
    """
    save_onnx(onnx_model(graph), facts, path)


def save_onnx(model: "ModelProto", facts: ExportedFacts, path: Path) -> None:
    """Writes a model that `onnx_model` made.

    Args:
        model: Stays as it is.
        facts: Stored in the file's metadata, with the key "distill".
        path: Of the file, which gets its name when it is finished.

    Raises:
        UserError: The place cannot be written.
    """
    told = type(model)()
    told.CopyFrom(model)
    entry = told.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, facts.to_json()
    write_atomically(path, lambda temporary: temporary.write_bytes(told.SerializeToString()))


def onnx_model(graph: ExportGraph) -> "ModelProto":
    """The graph as an ONNX model with the names and types of all its values.

    Raises:
        UserError: The packages of the extra `onnx` are absent, or the graph cannot be written.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  what the exporter and the translations of operators are written in
    except ImportError as error:
        raise UserError(f"onnx files need the package {error.name}: pip install 'distill-rs[onnx]'") from error
    operators: Any = graph.onnx_operators()  # the exporter's own signature allows functions alone
    with refused_in_one_line(graph):
        program: Any = torch.onnx.export(
            graph,
            graph.example(),
            dynamo=True,
            opset_version=_OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=graph.dynamic_shapes(),
            custom_translation_table=dict(operators),
            verbose=False,
        )
        model = program.model_proto
        _forget_sources(model)
        # Types that the exporter knew, of values that its rewriting has replaced since, are those of other values.
        del model.graph.value_info[:]
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model)
    return model


def _forget_sources(model: "ModelProto") -> None:
    """Takes out the lines of Python that each node comes from, with the paths of this machine."""
    del model.metadata_props[:]
    bodies = [model.graph, *model.functions]
    while bodies:
        body = bodies.pop()
        del body.metadata_props[:]
        for node in body.node:
            del node.metadata_props[:]
            node.doc_string = ""
            bodies += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
