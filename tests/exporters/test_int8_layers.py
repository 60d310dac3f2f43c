"""Which layers may be in int8: all but those in front of outputs, boxes and scans."""

from pathlib import Path

from distill.exporters.int8_layers import Node, quantized_layers
from distill.exporters.openvino_file import read_graph, write_openvino
from distill.exporters.quantize_openvino import graph_nodes
from tests.exported.small_files import LOGITS
from tests.exporters.small_graphs import write_softplus


def layer(*inputs: str) -> Node:
    return Node("Conv", (*inputs, ""), weighted=True)


def op(kind: str, *inputs: str) -> Node:
    return Node(kind, inputs)


def test_the_last_layers_before_outputs_stay_in_float() -> None:
    nodes = {
        "image": op("Parameter"),
        "stem": layer("image"),
        "attention": op("MatMul", "stem", "stem"),
        "classes": layer("attention"),
        "boxes": layer("stem"),
        "softmax": op("Softmax", "classes"),
        "grid": op("Shape", "stem"),
        "scaled": op("Mul", "boxes", "grid"),
    }
    assert quantized_layers(nodes, ["softmax", "scaled"]) == ["stem"]


def test_what_boxes_are_made_of_stays_in_float_and_what_is_pooled_does_not() -> None:
    nodes = {
        "image": op("Parameter"),
        "neck": layer("image"),
        "deltas": layer("neck"),
        "pooled": op("RoiAlign", "neck", "deltas", ""),
        "fully": layer("pooled"),
        "classes": layer("fully"),
    }
    assert quantized_layers(nodes, ["classes"]) == ["neck", "fully"]


def test_what_a_scan_reads_stays_in_float() -> None:
    nodes = {
        "image": op("Parameter"),
        "into": layer("image"),
        "delta_rank": layer("into"),
        "delta": layer("delta_rank"),
        "positive": op("Softplus", "delta"),
        "u": layer("into"),
        "scan": op("Scan", "positive", "u", ""),
        "gated": op("Mul", "scan", "into"),
        "out": layer("gated"),
        "classes": layer("out"),
    }
    assert quantized_layers(nodes, ["classes"]) == ["into", "delta_rank", "out"]


def test_what_softplus_reads_stays_in_float_in_either_form(tmp_path: Path) -> None:
    source, path = tmp_path / "a.onnx", tmp_path / "a.xml"
    write_softplus(source)
    write_openvino(source, LOGITS, path)
    for file, kinds in ((source, {"SoftPlus"}), (path, {"Exp"})):
        nodes = graph_nodes(read_graph(file))
        assert {node.kind for node in nodes.values()} & {"SoftPlus", "Exp"} == kinds
        assert sum(node.weighted for node in nodes.values()) == 2
        assert quantized_layers(nodes, []) == [name for name, node in nodes.items() if node.weighted][1:]
