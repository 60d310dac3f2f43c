"""Which layers may be in int8: all but those in front of outputs, boxes and scans."""

from distill.exporters.int8_layers import Node, quantized_layers


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
