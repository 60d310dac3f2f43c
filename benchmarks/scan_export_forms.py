"""Forms of the selective scan in ONNX, for `scan_export.py`.

Inputs: delta and x = Δ u (T, Q, 1, D), B (T, Q, N, 1), C (T, Q, 1, N), A (Q, N, D); the output is y (T, Q, 1, D).
Axes: T tokens, Q rows, D channels, N states, S tokens of a block.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, inliner, numpy_helper

_BLOCK = 64  # tokens, blocks side by side
_OWN = "distill.scan"  # domain of the functions of `students.scan.onnx`
_AT_ONCE = 8  # tokens, one block after the other


@dataclass(frozen=True)
class Sizes:
    """Of a scan."""

    rows: int
    states: int
    channels: int

    def __str__(self) -> str:
        return f"{self.rows} directions, {self.channels} channels, {self.states} states"


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    """A node from names with spaces between."""
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def constant(name: str, value: Any) -> NodeProto:
    return node("Constant", "", name, value=numpy_helper.from_array(np.asarray(value)))


def value(name: str, *shape: int | str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def zeros(s: Sizes) -> NodeProto:
    return constant("start", np.zeros((s.rows, s.states, s.channels), np.float32))


def states_last(s: Sizes) -> list[NodeProto]:
    """`Scan` with the states as the last axis, as mamba-ssm lays them out: short vectors."""
    body = helper.make_graph(
        [
            node("Mul", "d A_", "dA"),
            node("Exp", "dA", "a"),
            node("Mul", "a before", "kept"),
            node("Mul", "x_t B_t", "new"),
            node("Add", "kept new", "after"),
            node("Mul", "after C_t", "weighted"),
            node("ReduceSum", "weighted axis", "y_t", keepdims=0),
            node("Identity", "A_", "A_out"),
        ],
        "token",
        [
            *(value(name, s.rows, s.channels, s.states) for name in ("A_", "before")),
            *(value(name, s.rows, s.channels, 1) for name in ("d", "x_t")),
            *(value(name, s.rows, 1, s.states) for name in ("B_t", "C_t")),
        ],
        [
            value("A_out", s.rows, s.channels, s.states),
            value("after", s.rows, s.channels, s.states),
            value("y_t", s.rows, s.channels),
        ],
    )
    body.node.insert(0, constant("axis", [-1]))
    turned = [node("Transpose", name, f"{name}T", perm=[0, 1, 3, 2]) for name in ("delta", "x", "B")]
    return [
        *turned,
        node("Transpose", "A", "AT", perm=[0, 2, 1]),
        constant("start", np.zeros((s.rows, s.channels, s.states), np.float32)),
        node("Scan", "AT start deltaT xT BT C", "A_last last y3", body=body, num_scan_inputs=4),
        constant("axis2", [2]),
        node("Unsqueeze", "y3 axis2", "y"),
    ]


def written(s: Sizes) -> list[NodeProto]:
    """What `students.scan.onnx` writes, with the shapes that the exporter adds, which OpenVINO needs."""
    from students.scan.onnx import _recurrence

    call = helper.make_graph([node("_recurrence", "A start delta x B C", "last y", domain=_OWN)], "call", [], [])
    model = helper.make_model(
        call,
        functions=[_recurrence.to_function_proto()],
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(_OWN, 1)],
    )
    nodes = list(inliner.inline_local_functions(model).graph.node)
    scan = next(each for each in nodes if each.op_type == "Scan")
    body = next(attribute.g for attribute in scan.attribute if attribute.name == "body")
    shapes = [
        *[(s.rows, s.states, s.channels)] * 2,
        *[(s.rows, 1, s.channels)] * 2,
        (s.rows, s.states, 1),
        (s.rows, 1, s.states),
    ]
    for each, shape in zip(body.input, shapes, strict=True):
        each.CopyFrom(value(each.name, *shape))
    return [zeros(s), *nodes]


def tokens_at_once(s: Sizes) -> list[NodeProto]:
    """`Scan` over blocks of 8 tokens, which its body computes one after the other."""
    nodes = [
        node("Split", name, " ".join(f"{name}{i}" for i in range(_AT_ONCE)), axis=0, num_outputs=_AT_ONCE)
        for name in ("d", "x_t", "B_t")
    ]
    for i in range(_AT_ONCE):
        before = "before" if i == 0 else f"h{i - 1}"
        nodes += [
            node("Mul", f"d{i} A_", f"dA{i}"),
            node("Exp", f"dA{i}", f"a{i}"),
            node("Mul", f"a{i} {before}", f"kept{i}"),
            node("Mul", f"x_t{i} B_t{i}", f"new{i}"),
            node("Add", f"kept{i} new{i}", f"h{i}"),
        ]
    nodes += [
        node("Concat", " ".join(f"h{i}" for i in range(_AT_ONCE)), "h", axis=0),
        node("MatMul", "C_t h", "y_t"),
        node("Identity", f"h{_AT_ONCE - 1}", "after"),
        node("Identity", "A_", "A_out"),
    ]
    body = helper.make_graph(
        nodes,
        "block",
        [
            value("A_", s.rows, s.states, s.channels),
            value("before", 1, s.rows, s.states, s.channels),
            *(value(name, _AT_ONCE, s.rows, 1, s.channels) for name in ("d", "x_t")),
            value("B_t", _AT_ONCE, s.rows, s.states, 1),
            value("C_t", _AT_ONCE, s.rows, 1, s.states),
        ],
        [
            value("A_out", s.rows, s.states, s.channels),
            value("after", 1, s.rows, s.states, s.channels),
            value("y_t", _AT_ONCE, s.rows, 1, s.channels),
        ],
    )
    return [
        *_blocks(_AT_ONCE, s),
        constant("start", np.zeros((1, s.rows, s.states, s.channels), np.float32)),
        node("Scan", "A start delta_ x_ B_ C_", "A_last last y_", body=body, num_scan_inputs=4),
        *_joined(s),
    ]


def blocks_side_by_side(s: Sizes) -> list[NodeProto]:
    """Blocks of 64 tokens as one batch: their last states, what is carried from block to block, then all outputs."""
    step = [
        node("Mul", "d A_", "dA"),
        node("Exp", "dA", "a"),
        node("Mul", "a before", "kept"),
        node("Mul", "x_t B_t", "new"),
        node("Add", "kept new", "after"),
        node("Identity", "A_", "A_out"),
    ]
    state, own = value("before", "blocks", s.rows, s.states, s.channels), value("A_", s.rows, s.states, s.channels)
    tokens = [
        *(value(name, "blocks", s.rows, 1, s.channels) for name in ("d", "x_t")),
        value("B_t", "blocks", s.rows, s.states, 1),
    ]
    kept = [value("A_out", s.rows, s.states, s.channels), value("after", "blocks", s.rows, s.states, s.channels)]
    first = helper.make_graph(step, "first", [own, state, *tokens], kept)
    again = helper.make_graph(
        [*step, node("MatMul", "C_t after", "y_t")],
        "again",
        [own, state, *tokens, value("C_t", "blocks", s.rows, 1, s.states)],
        [*kept, value("y_t", "blocks", s.rows, 1, s.channels)],
    )
    carry = helper.make_graph(
        [node("Mul", "p e", "pe"), node("Add", "pe l", "e_out"), node("Identity", "e", "enters")],
        "carry",
        [value(name, s.rows, s.states, s.channels) for name in ("e", "p", "l")],
        [value(name, s.rows, s.states, s.channels) for name in ("e_out", "enters")],
    )
    return [
        *_blocks(_BLOCK, s),
        zeros(s),
        node("Shape", "delta_", "blocks", start=0, end=1),
        constant("state", [s.rows, s.states, s.channels]),
        node("Concat", "blocks state", "all", axis=0),
        node("Expand", "start all", "starts"),
        node("Scan", "A starts delta_ x_ B_", "A_1 lasts", body=first, num_scan_inputs=3, scan_input_axes=[1] * 3),
        constant("one", [1]),
        node("ReduceSum", "delta_ one", "sums", keepdims=0),
        node("Mul", "sums A", "exponents"),
        node("Exp", "exponents", "products"),
        node("Scan", "start products lasts", "last entering", body=carry, num_scan_inputs=2),
        node(
            "Scan",
            "A entering delta_ x_ B_ C_",
            "A_2 l y_",
            body=again,
            num_scan_inputs=4,
            scan_input_axes=[1] * 4,
            scan_output_axes=[1],
        ),
        *_joined(s),
    ]


def linear_attention(s: Sizes) -> list[NodeProto]:
    """onnxruntime's own operator: a head of one value and N keys for each channel, so that B, C and decays repeat."""
    heads = s.rows * s.channels
    per_key = {"k": ("B", [0, 1, 3, 2]), "q": ("C", [0, 1, 2, 3])}
    nodes = [
        node("Shape", "delta", "T", start=0, end=1),
        constant("rest", [s.rows, s.channels, s.states]),
        node("Concat", "T rest", "full", axis=0),
        constant("keys", [1, -1, heads * s.states]),
        constant("values", [1, -1, heads]),
        constant("outputs", [-1, s.rows, 1, s.channels]),
        node("Transpose", "delta", "deltaT", perm=[0, 1, 3, 2]),
        node("Transpose", "A", "AT", perm=[0, 2, 1]),
        node("Mul", "deltaT AT", "exponents"),
        node("Reshape", "exponents keys", "decay"),
        node("Reshape", "x values", "v"),
    ]
    for name, (source, order) in per_key.items():
        nodes += [
            node("Transpose", source, f"{name}1", perm=order),
            node("Expand", f"{name}1 full", f"{name}2"),
            node("Reshape", f"{name}2 keys", name),
        ]
    inputs = ["q", "k", "v", "", "decay"]
    settings = {"q_num_heads": heads, "kv_num_heads": heads, "scale": 1.0, "update_rule": "gated"}
    nodes.append(helper.make_node("LinearAttention", inputs, ["o", "last"], domain="com.microsoft", **settings))
    return [*nodes, node("Reshape", "o outputs", "y")]


def _blocks(size: int, s: Sizes) -> list[NodeProto]:
    """Inputs padded to whole blocks, which leave the state as it is: delta_ and the others (blocks, S, ...)."""
    nodes = [
        constant("S", [size]),
        node("Shape", "delta", "T", start=0, end=1),
        node("Neg", "T", "negative"),
        node("Mod", "negative S", "missing"),
        constant("zeros4", [0, 0, 0, 0]),
        constant("zeros3", [0, 0, 0]),
        node("Concat", "zeros4 missing zeros3", "pads", axis=0),
    ]
    shapes = {"delta": (1, s.channels), "x": (1, s.channels), "B": (s.states, 1), "C": (1, s.states)}
    for name, shape in shapes.items():
        nodes += [
            node("Pad", f"{name} pads", f"{name}P"),
            constant(f"{name}S", [-1, size, s.rows, *shape]),
            node("Reshape", f"{name}P {name}S", f"{name}_"),
        ]
    return nodes


def _joined(s: Sizes) -> list[NodeProto]:
    """y from y_, (blocks, S, Q, 1, D)."""
    return [
        constant("flat", [-1, s.rows, 1, s.channels]),
        node("Reshape", "y_ flat", "y_padded"),
        constant("zero", [0]),
        node("Slice", "y_padded zero T zero", "y"),
    ]


FORMS: dict[str, Callable[[Sizes], list[NodeProto]]] = {
    "Scan, states last": states_last,
    "Scan, channels last (written)": written,
    "Scan, 8 tokens a step": tokens_at_once,
    "blocks of 64 side by side": blocks_side_by_side,
    "LinearAttention": linear_attention,
}


def file_of(name: str, sizes: Sizes, folder: Path) -> Path:
    """Writes a form, and returns where."""
    rows, states, channels = sizes.rows, sizes.states, sizes.channels
    graph = helper.make_graph(
        FORMS[name](sizes),
        "scan",
        [
            *(value(each, "T", rows, 1, channels) for each in ("delta", "x")),
            value("B", "T", rows, states, 1),
            value("C", "T", rows, 1, states),
            value("A", rows, states, channels),
        ],
        [value("y", "T", rows, 1, channels)],
    )
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=10)
    path = folder / f"{list(FORMS).index(name)}.onnx"
    onnx.save(model, path)
    return path
