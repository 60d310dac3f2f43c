"""A run or an exported file as something that is timed: its passes, and what it holds.

Axes: H W pixels, S side of the square image that all models get.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from distill.contracts import HeadBase, Target
from distill.evaluation.cost import macs_so_far
from distill.evaluation.parts import Parts
from distill.exported.facts import FLOAT32, INT8
from distill.exported.session import is_exported, open_session
from distill.instance_masks import InstanceMasks
from distill.launch.bench_image import bench_image
from distill.launch.load import load
from distill.launch.predictors import InstancePredictor, Predictor, SemanticPredictor
from distill.launch.stored_run import StoredRun
from distill.processor import has_bfloat16

BFLOAT16 = "bfloat16"
PRECISIONS = (FLOAT32, BFLOAT16)
BACKBONE = "backbone"
_RUNTIMES = {".onnx": "onnxruntime", ".xml": "OpenVINO", ".pt2": "PyTorch, exported"}

Pass = Callable[[], dict[str, float]]  # runs once, and returns the seconds of each part; of a file there is one, ""


class BenchModel(Protocol):
    """A model that is timed.

    Attributes:
        name: As the user named it.
        runtime: What runs it.
        side: Of the images that it is made for, in pixels; None if it does not tell.
        stride: S is a multiple of it.
        megabytes: Of its weights as it is stored, 10^6 bytes.
        instances: Most that it finds in one image; None if the work does not depend on it.
    """

    name: str
    runtime: str
    side: int | None
    stride: int
    megabytes: float
    instances: int | None

    def precisions(self, wanted: Sequence[str]) -> dict[str, str]:
        """The given precisions that it supports, by their name in a table."""

    def prepared(self, side: int, threads: int, precision: str) -> Pass:
        """A pass over an image of side S."""

    def multiply_adds(self, side: int) -> dict[str, int]:
        """Multiply-adds of each part in one pass; empty if they cannot be counted."""


def open_bench_model(path: str | PathLike[str]) -> BenchModel:
    """A run folder or an exported file.

    Raises:
        UserError: It is neither, or cannot be opened.
    """
    return BenchFile(Path(path)) if is_exported(path) else BenchRun(path)


class BenchRun:
    """The model of a run folder in PyTorch, part by part. A distillation has its student only."""

    runtime = "PyTorch"

    def __init__(self, path: str | PathLike[str]) -> None:
        self.name = str(path)
        self._model: Predictor = load(path, device="cpu", float32=True)
        network = self._model.network
        instances = isinstance(self._model, InstancePredictor)
        self.side: int | None = StoredRun(Path(path)).data.get("image_size") if Path(path).is_dir() else None
        self._student = network.student if isinstance(self._model, InstancePredictor | SemanticPredictor) else network
        self.stride = max(self._student.feature_info.reduction())
        self.megabytes = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers())) / 1e6
        self._head: HeadBase | None = network.head if instances else None
        self.instances: int | None = None if self._head is None else self._head.max_detections

    def precisions(self, wanted: Sequence[str]) -> dict[str, str]:
        """See `BenchModel`; bfloat16 is that of PyTorch's autocast."""
        return {name: name for name in wanted if name == FLOAT32 or has_bfloat16()}

    def prepared(self, side: int, threads: int, precision: str) -> Pass:
        """See `BenchModel`."""
        image, parts = torch.from_numpy(bench_image(side)), self._parts()
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == BFLOAT16)

        def run() -> dict[str, float]:
            _use_threads(threads)
            with torch.inference_mode(), autocast, self._full_work():
                return parts.measure(lambda: self._compute(image))

        return run

    def multiply_adds(self, side: int) -> dict[str, int]:
        """See `BenchModel`."""
        image = torch.from_numpy(bench_image(side))
        with torch.no_grad(), self._full_work(), macs_so_far() as macs:
            counted = self._parts().measure(lambda: self._compute(image), macs)
        return {part: int(count) for part, count in counted.items()}

    def _parts(self) -> Parts:
        """The backbone, and what the head tells apart; what lies between its parts counts to the middle."""
        backbone = {BACKBONE: self._student.forward}
        if isinstance(self._model, SemanticPredictor):
            return Parts(backbone, rest="decoder")
        if self._head is None:
            return Parts(backbone, rest=BACKBONE)
        own = self._head.cost_parts()
        return Parts({**backbone, **own}, rest="regions" if "regions" in own else "head")

    def _full_work(self) -> Any:
        return nullcontext() if self._head is None else self._head.full_work()

    def _compute(self, image: Tensor) -> None:
        side = image.shape[-1]
        network = self._model.network
        if self._head is not None:
            self._head.predict(network.features(image), [_target(side)])
        elif isinstance(self._model, SemanticPredictor):
            network.predict_logits(image, (side, side))
        else:
            self._model.predict(image[0])


class BenchFile:
    """A file of `distill export` in its own runtime, from the image to what it gives."""

    def __init__(self, path: Path) -> None:
        self.name, self.path = str(path), path
        facts = open_session(path, threads=1).facts
        self.runtime = _RUNTIMES[path.suffix.lower()]
        self.side: int | None = facts.image_size or facts.window or facts.size.tile
        self.stride = facts.stride
        self.instances: int | None = facts.max_detections
        files = [path, path.with_suffix(".bin")] if path.suffix.lower() == ".xml" else [path]
        self.megabytes = sum(file.stat().st_size for file in files) / 1e6
        self._int8 = facts.precision == INT8

    def precisions(self, wanted: Sequence[str]) -> dict[str, str]:
        """See `BenchModel`; bfloat16 is OpenVINO's, where the processor has it."""
        found = {FLOAT32: INT8 if self._int8 else FLOAT32}
        if self.runtime == "OpenVINO" and has_bfloat16():
            found[BFLOAT16] = f"{INT8} and {BFLOAT16}" if self._int8 else BFLOAT16
        return {name: found[name] for name in wanted if name in found}

    def prepared(self, side: int, threads: int, precision: str) -> Pass:
        """See `BenchModel`."""
        session = open_session(self.path, threads=threads, exact=precision == FLOAT32)
        image = bench_image(side)

        def run() -> dict[str, float]:
            _use_threads(threads)  # of a .pt2
            start = time.perf_counter()
            session.run(image, (side, side))
            return {"": time.perf_counter() - start}

        return run

    def multiply_adds(self, side: int) -> dict[str, int]:
        """None; they are those of the run that it comes from."""
        return {}


def _use_threads(count: int) -> None:
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def _target(side: int) -> Target:
    """An image of which nothing is known but its size."""
    return Target(
        image_id=0,
        boxes=torch.zeros(0, 4),
        labels=torch.zeros(0, dtype=torch.int64),
        masks=InstanceMasks.from_patches([], (side, side)),
        crowd=torch.zeros(0, dtype=torch.bool),
        size=(side, side),
        original_size=(side, side),
    )
