"""ONNX export: what onnxruntime computes from the standard operators against the reference."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distill.exporters.feature_graph import FeatureGraph
from distill.exporters.onnx_file import onnx_model
from students import RS4D
from students.scan import bidirectional_conv1d, causal_conv1d, selective_scan, selective_scan_2d
from students.scan.interface import run_scan
from tests.students.scan.problems import Problem, build

pytest.importorskip("onnxscript")
ort = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore:# The axis name")  # inputs of one size share its name


class Calls(nn.Module):
    """A model that is one function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def export(model: nn.Module, inputs: tuple[Tensor, ...], **options: Any) -> Any:
    from students.scan.onnx import scan_translations

    program = torch.onnx.export(
        model.eval(),
        inputs,
        dynamo=True,
        opset_version=18,
        custom_translation_table=scan_translations(),
        verbose=False,
        **options,
    )
    assert {node.domain for node in program.model.graph.all_nodes()} == {""}, "only standard operators"
    return program


def run(program: Any, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    session = ort.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {node.name: x.numpy() for node, x in zip(session.get_inputs(), inputs, strict=True)}
    return [torch.from_numpy(x) for x in session.run(None, feeds)]


def assert_same(problem: Problem, dtype: torch.dtype, tolerance: float) -> None:
    """Exports a scan whose tensors are all inputs, and compares with the reference in float64."""
    scan = build(problem)
    present = {field.name: getattr(scan, field.name) for field in fields(scan)}
    inputs = {name: x for name, x in present.items() if isinstance(x, Tensor)}
    values = tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs.values())

    def compute(*values: Tensor) -> tuple[Tensor, Tensor]:
        return run_scan(replace(scan, **dict(zip(inputs, values, strict=True))), "chunked")

    program = export(Calls(compute), values)
    assert [node.op_type for node in program.model.graph].count("Scan") == 1
    out, last = run(program, values)
    assert out.dtype == dtype
    expected_out, expected_last = run_scan(scan, "reference")
    torch.testing.assert_close(out.double(), expected_out, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(last.double(), expected_last, rtol=tolerance, atol=tolerance)


PROBLEMS = [
    Problem(),
    Problem(length=1, batch=1),
    Problem(groups=3, initial_state=True, mean=True),
    Problem(skip=False, gate=False, bias=False, softplus=False),
    Problem(constant_B=True, constant_C=True, initial_state=True),
    Problem(decay="stiff", length=65),
    Problem(order="bidirectional", grid=(5, 7), rank=2, mean=True),
    Problem(order="cross", grid=(3, 5), shared=False, groups=2, initial_state=True),
    Problem(order="window:2", grid=(3, 5), constant_B=True),
    Problem(order="atrous", grid=(3, 5), rank=1, skip=True, mean=True, initial_state=True),  # rows end in -1
]


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_equals_reference(problem: Problem) -> None:
    assert_same(problem, torch.float32, 1e-4)


def test_float64_stays_float64() -> None:
    assert_same(Problem(order="atrous", grid=(3, 5)), torch.float64, 1e-12)


def test_half_precision_is_computed_in_float32() -> None:
    assert_same(Problem(dtype=torch.float16), torch.float16, 2e-3)


def test_complex_scans_are_refused() -> None:
    with pytest.raises(torch.onnx.OnnxExporterError, match="complex-valued"):
        assert_same(Problem(complex=True), torch.float32, 1e-4)


def test_batch_and_length_may_be_dynamic() -> None:
    def inputs(batch: int, length: int) -> tuple[Tensor, ...]:
        random = torch.Generator().manual_seed(length)
        u, delta, z = (torch.randn(batch, 4, length, generator=random) for _ in range(3))
        B, C = (torch.randn(batch, 2, 3, length, generator=random) for _ in range(2))
        return u, delta, B, C, z

    # A state that is forgotten at once, one that is kept for ever, and one in between.
    A, D = torch.tensor([-1e4, 0.0, -0.5]).expand(4, 3), torch.ones(4)

    def compute(u: Tensor, delta: Tensor, B: Tensor, C: Tensor, z: Tensor, backend: str = "chunked") -> Any:
        return selective_scan(u, delta, A, B, C, D, z, None, True, True, backend=backend)

    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    axes = {0: batch, 2: length}
    grouped = {0: batch, 3: length}
    program = export(Calls(compute), inputs(2, 9), dynamic_shapes=((axes, axes, grouped, grouped, axes),))
    for sizes in ((2, 9), (3, 1), (1, 33)):
        for found, expected in zip(
            run(program, inputs(*sizes)), compute(*inputs(*sizes), backend="reference"), strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_images_of_any_size() -> None:
    """Orders given by name are traced with the sizes of the image."""

    def inputs(height: int, width: int) -> tuple[Tensor, ...]:
        random = torch.Generator().manual_seed(width)
        u = torch.randn(1, height, width, 4, generator=random)
        delta = torch.randn(1, height, width, 4, 4, generator=random)
        return u, delta, *(torch.randn(1, height, width, 4, 3, generator=random) for _ in range(2))

    A = -torch.rand(4, 4, 3, generator=torch.Generator().manual_seed(0))

    def compute(u: Tensor, delta: Tensor, B: Tensor, C: Tensor, backend: str = "chunked") -> Tensor:
        return selective_scan_2d(u, delta, A, B, C, delta_softplus=True, order="cross", backend=backend)

    axes = {1: torch.export.Dim("height"), 2: torch.export.Dim("width")}
    program = export(Calls(compute), inputs(5, 7), dynamic_shapes=((axes,) * 4,))
    for sizes in ((5, 7), (3, 2), (4, 9)):
        (found,) = run(program, inputs(*sizes))
        torch.testing.assert_close(found, compute(*inputs(*sizes), backend="reference"), rtol=1e-5, atol=1e-5)


def test_orders_given_as_tables() -> None:
    random = torch.Generator().manual_seed(0)
    order = torch.stack([torch.randperm(6, generator=random) for _ in range(2)])
    A = -torch.rand(2, 4, 3, generator=random)
    u, (B, C) = torch.randn(1, 2, 3, 4), torch.randn(2, 1, 2, 3, 2, 3)
    delta = torch.rand(1, 2, 3, 2, 4)

    def compute(*inputs: Tensor, backend: str = "chunked") -> Tensor:
        u, delta, B, C, order = inputs
        return selective_scan_2d(u, delta, A, B, C, order=order, backend=backend)

    inputs = (u, delta, B, C, order)
    (found,) = run(export(Calls(compute), inputs), inputs)
    torch.testing.assert_close(found, compute(*inputs, backend="reference"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", [None, "silu"])
def test_convolutions(activation: str | None) -> None:
    random = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*shape, generator=random) for shape in ((2, 5, 9), (5, 4), (5,)))

    def compute(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        return (
            causal_conv1d(x, weight, bias, activation),
            causal_conv1d(x, weight, None, activation, padding="same"),
            bidirectional_conv1d(x.mT, weight, bias, activation),
        )

    inputs = (x, weight, bias)
    for found, expected in zip(run(export(Calls(compute), inputs), inputs), compute(*inputs), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["tiny", "base"])  # small and large differ in depth and width alone
def test_students_at_any_size(variant: str) -> None:
    """One file of two layers, whose position embedding is kept, stretched and shrunk, in both runtimes."""
    openvino = pytest.importorskip("openvino")
    torch.manual_seed(0)
    student = RS4D(variant, image_size=64, patch_size=8, out_indices=[0])
    student.layers, student._taps = student.layers[:2], [0, 1]
    for layer in student.modules():
        if isinstance(layer, nn.Linear):  # at initialisation the scan has little effect
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    nn.init.normal_(student.pos_embed)
    graph = FeatureGraph(student)
    model = onnx_model(graph).SerializeToString()
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for size in ((64, 64), (128, 96), (40, 24), (16, 136)):
        image = torch.rand(1, 3, *size)
        with torch.no_grad():
            expected = graph(image)
        feeds = {"image": image.numpy()}
        for found in (session.run(None, feeds), compiled(feeds).values()):
            for one, wanted in zip(found, expected, strict=True):
                difference = (torch.from_numpy(one) - wanted).abs().max() / wanted.abs().max()
                assert difference < 1e-4, size
