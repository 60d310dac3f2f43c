"""A land-cover run in onnxruntime has the logits of the run, at any size, and Deepness finds what it reads."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from pytorch_lightning.plugins.precision import Precision
from timm.models import FeatureInfo
from torch import Tensor, nn

import heads
from distill.contracts import DecoderBase, StudentBase
from distill.errors import UserError
from distill.exported.facts import ExportedFacts
from distill.exported.models import ExportedClasses, open_model
from distill.exporters.deepness import write_deepness
from distill.exporters.land_cover_graph import LandCoverGraph, MeanOfBins
from distill.exporters.onnx_file import write_onnx
from distill.exporters.pt2_file import write_pt2
from distill.launch.predictors import SemanticPredictor
from distill.layers import resize
from distill.scene.tile_size import TileSize
from distill.tasks.segmentation import SegmentationModule

pytestmark = pytest.mark.xdist_group("land cover graph")  # written once

NAMES = ("land", "water", "wood")


class Convolutions(StudentBase):
    """Maps of strides 4 and 8."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_info = FeatureInfo(
            [{"num_chs": c, "reduction": r, "module": ""} for c, r in ((8, 4), (12, 8))], (0, 1)
        )
        self.first = nn.Conv2d(3, 8, 5, stride=4, padding=2)
        self.second = nn.Conv2d(8, 12, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> list[Tensor]:
        fine = self.first(images).relu()
        return [fine, self.second(fine).relu()]


class Merged(Convolutions):
    """One map, of stride 4, into which one of stride 8 has gone."""

    coarsest = 8

    def __init__(self) -> None:
        super().__init__()
        self.feature_info = FeatureInfo([{"num_chs": 20, "reduction": 4, "module": ""}], (0,))

    def forward(self, images: Tensor) -> list[Tensor]:
        fine, coarse = super().forward(images)
        return [torch.cat([fine, resize(coarse, fine.shape[-2:], "bicubic")], dim=1)]


class Pooled(DecoderBase):
    """Classes of each place, and of what is around it, as UPerNet's pyramid has it; without its many layers."""

    def __init__(self, feature_info: FeatureInfo, class_names: list[str]) -> None:
        super().__init__()
        self.stride = 4
        self.pool, self.near = nn.AdaptiveAvgPool2d(3), nn.Conv2d(8, len(class_names), 1)
        self.around = nn.Conv2d(12, len(class_names), 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        fine, coarse = features
        around = nn.functional.interpolate(self.around(self.pool(coarse)), fine.shape[-2:], mode="bilinear")
        return 5 * (self.near(fine) + around)


@pytest.fixture(scope="module")
def task() -> SegmentationModule:
    torch.manual_seed(0)
    made = SegmentationModule(Convolutions(), Pooled)
    made.build(list(NAMES))
    return made.eval()


@pytest.fixture(scope="module")
def file(task: SegmentationModule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    graph = LandCoverGraph(task)
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    write_onnx(graph, facts(graph), path)
    return path


def facts(graph: LandCoverGraph, gsd: float | None = 0.3) -> ExportedFacts:
    return ExportedFacts(
        kind=graph.kind,
        task="segmentation",
        class_names=NAMES,
        stride=graph.stride,
        least=graph.least,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        size=TileSize(64, 16),
        run="runs/mine",
        student="tests.Convolutions",
        head="tests.Pooled",
        digest="0" * 64,
        version="0.1.0",
        gsd=gsd,
    )


def test_logits_of_any_size_are_those_of_the_run(task: SegmentationModule, file: Path) -> None:
    same_logits(task, file)


def test_a_program_takes_any_size_too(task: SegmentationModule, tmp_path: Path) -> None:
    """Where a map would have one row, the image is padded, with no more than the edges to tell it by."""
    graph = LandCoverGraph(task)
    write_pt2(graph, facts(graph), tmp_path / "model.pt2")
    same_logits(task, tmp_path / "model.pt2")
    (logits,) = open_model(tmp_path / "model.pt2").tile_logits([np.full((3, 5, 64), 90, np.uint8)])
    assert logits.shape == (3, 5, 64)
    assert np.isfinite(logits).all()
    (wide,) = open_model(tmp_path / "model.pt2").tile_logits([np.full((3, 16, 4100), 90, np.uint8)])
    assert wide.shape == (3, 16, 4100), "scenes that a run predicts whole are wider than 4096 px"


def test_one_map_is_no_sign_of_patches(tmp_path: Path) -> None:
    """An image is not padded to its stride, and is large enough for the map inside."""
    torch.manual_seed(0)
    task = SegmentationModule(Merged(), heads.SegHead)
    task.build(list(NAMES))
    graph = LandCoverGraph(task)
    assert (graph.stride, graph.least) == (1, 9)
    write_pt2(graph, facts(graph), tmp_path / "model.pt2")
    same_logits(task, tmp_path / "model.pt2")
    assert open_model(tmp_path / "model.pt2").session.run(np.zeros((1, 3, 9, 9), np.float32), (9, 9))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("decoder", "arguments"),
    [("LALEDecoder", {}), ("SegHead", {}), ("UPerNet", {"channels": 16}), ("FPNDecoder", {"channels": 32})],
)
def test_of_every_decoder(decoder: str, arguments: dict[str, int], tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = SegmentationModule(Convolutions(), partial(getattr(heads, decoder), **arguments))
    task.build(list(NAMES))
    graph = LandCoverGraph(task)
    write_onnx(graph, facts(graph), tmp_path / "model.onnx")
    same_logits(task, tmp_path / "model.onnx")


def test_groups_of_one_channel_are_refused() -> None:
    task = SegmentationModule(Convolutions(), partial(heads.FPNDecoder, channels=32, segmentation_channels=32))
    task.build(list(NAMES))
    with pytest.raises(UserError, match=r"heads.FPNDecoder cannot be exported: 32 groups .* train it with 64 channels"):
        LandCoverGraph(task)


def same_logits(task: SegmentationModule, file: Path) -> None:
    settings = {"precision": Precision(), "device": torch.device("cpu"), "class_names": list(NAMES)}
    run, exported = SemanticPredictor(task, 1.0, **settings), open_model(file)
    assert isinstance(exported, ExportedClasses)
    rng = np.random.default_rng(0)
    for height, width in ((64, 64), (96, 160), (50, 77), (33, 64)):
        tile = rng.integers(0, 256, (3, height, width), dtype=np.uint8)
        (expected,), (found,) = run.tile_logits([tile]), exported.tile_logits([tile])
        assert expected.std() > 0.01
        assert found.shape == expected.shape == (3, height, width)
        assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("size", [(6, 6), (7, 13), (5, 40)])
def test_means_of_bins(size: tuple[int, int]) -> None:
    maps = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    for bins in ((1, 1), (2, 2), (3, 3), (6, 4)):
        assert torch.allclose(MeanOfBins(bins)(maps), nn.AdaptiveAvgPool2d(bins)(maps), atol=1e-6)


def test_what_deepness_reads(task: SegmentationModule, file: Path, tmp_path: Path) -> None:
    model, about = onnx.load(file), facts(LandCoverGraph(task))
    write_deepness(model, about, tmp_path / "qgis.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "qgis.onnx"), providers=["CPUExecutionProvider"])
    (image,), (output,) = session.get_inputs(), session.get_outputs()
    assert image.shape == [1, 3, 64, 64]
    assert output.shape == [1, 3, 64, 64]
    read = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert read["model_type"] == "Segmentor"
    assert read["class_names"] == {"0": "land", "1": "water", "2": "wood"}
    assert (read["resolution"], read["tiles_size"], read["tiles_overlap"]) == (30, 64, 25)
    pixels = np.random.default_rng(1).random((1, 3, 64, 64), np.float32)
    (found,) = session.run(None, {image.name: pixels})
    logits = open_model(file).session.run(pixels, (64, 64))["logits"]
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(found.argmax(axis=1), logits.argmax(axis=1))
    with pytest.raises(UserError, match="does not tell how large a pixel of its training images is"):
        write_deepness(model, facts(LandCoverGraph(task), gsd=None), tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()
