"""Models that are ready for use: an image in, instances, classes of pixels or feature maps out.

Axes: B batch, C channels, N instances, H W pixels of the image file, h w of what the network sees of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning.plugins.precision import Precision
from torch import Tensor, nn

from distill.contracts import Prediction, StudentBase
from distill.data.views.instances import fitting_window, view
from distill.data.views.semantic import zoomed
from distill.instance_masks import InstanceMasks
from distill.launch.image_inputs import ImageInput, as_pixels, is_single, series
from distill.launch.plots import draw_classes, draw_features, draw_instances, new_axes
from distill.layers import Normalize
from distill.scene.detections import Pixels, TileInstances
from distill.tasks.instances import FineTuningModule
from distill.tasks.segmentation import SegmentationModule
from distill.tasks.tiled_images import tile_instances
from distill.training.allocator import trim_freed_memory

_TRIM_EVERY = 16  # tiles


@dataclass
class Instances:
    """Instances found in an image, in pixels of the image file; on the CPU.

    Attributes:
        image_id: Position of the image in the series that was given.
        boxes: (N, 4) float32, (x1, y1, x2, y2), exclusive at the far edge.
        scores: (N,) float32 in [0, 1], descending.
        labels: (N,) int64, index into the class names.
        compact_masks: The masks without the empty space around them, which take the memory of the objects.
        class_names: All classes of the model, in label order.
    """

    image_id: int
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    compact_masks: InstanceMasks = field(repr=False)
    class_names: list[str] = field(repr=False)

    @cached_property
    def masks(self) -> Tensor:
        """(N, H, W) bool; made when first asked for, and kept."""
        return self.compact_masks.dense()

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def names(self) -> list[str]:
        """The class name of each instance."""
        return [self.class_names[label] for label in self.labels.tolist()]


@dataclass
class ClassMap:
    """The class of each pixel of an image; on the CPU.

    Attributes:
        labels: (H, W) int64, index into the class names.
        class_names: All classes of the model, in label order.
    """

    labels: Tensor
    class_names: list[str] = field(repr=False)


class Predictor(ABC):
    """A network in eval mode with its own preprocessing.

    Attributes:
        network: The task, or the student.
        class_names: Classes in label order; empty for a student.

    Args:
        network: See above.
        device: Where it computes.
        class_names: See above.
        bands: Bands of image files to show; see `distill.data.images.read_image`.
        batch_size: Images that are predicted together.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        class_names: Sequence[str] = (),
        bands: Sequence[int] | None = None,
        batch_size: int = 1,
    ) -> None:
        self.network: Any = network.to(device).eval()
        self.device = device
        self.class_names = list(class_names)
        self.bands = bands
        self.batch_size = batch_size
        self._tiles = 0  # since memory was given back

    def predict(self, images: ImageInput | Iterable[ImageInput]) -> Any:
        """Predicts one image or many.

        Args:
            images: An image: a path, a Pillow image, or an array or tensor (H, W, 3) or (3, H, W), of uint8 or of
                floats in [0, 1]. Or many: an iterable of images of any sizes, or a tensor (B, 3, H, W).

        Returns:
            The result of the image; of many images, a list of results in their order.

        Raises:
            UserError: A file that cannot be read, or an image of another type, shape or range.
        """
        if is_single(images):
            return self._all([images])[0]  # type: ignore[list-item]
        return self._all(series(images))

    def plot(self, image: ImageInput, axes: Any = None, score: float = 0.3) -> Any:
        """Predicts an image and draws what is found: masks with classes and scores, a class map, or features.

        Args:
            image: One image; see `predict`.
            axes: Of Matplotlib, to draw in; by default those of a new figure.
            score: The least score of an instance that is drawn.

        Returns:
            The axes, whose units are pixels of the image; `axes.figure` has `savefig`.

        Raises:
            UserError: A file that cannot be read, or an image of another type, shape or range.
        """
        pixels = as_pixels(image, self.bands)
        found = self.predict(pixels)
        axes = new_axes() if axes is None else axes
        self._draw(axes, pixels, found, score)
        return axes

    @torch.no_grad()
    def _all(self, images: Iterable[ImageInput]) -> list[Any]:
        remaining, results = iter(images), list[Any]()
        while batch := list(islice(remaining, self.batch_size)):
            results += self._predict([as_pixels(image, self.bands) for image in batch], len(results))
        return results

    def _count(self, tiles: int) -> None:
        """Gives free memory back to the system now and then; a scene has thousands of tiles."""
        self._tiles += tiles
        if self._tiles >= _TRIM_EVERY:
            self._tiles = 0
            trim_freed_memory()

    @abstractmethod
    def _predict(self, pixels: list[Tensor], first: int) -> list[Any]:
        """Results of a batch of uint8 images (3, H, W); `first` is the position of its first image."""

    @abstractmethod
    def _draw(self, axes: Any, pixels: Tensor, found: Any, score: float) -> None:
        """Draws a result in axes."""


class InstancePredictor(Predictor):
    """Finds `Instances`: those that `distill test` finds in the same image with the same checkpoint.

    It is an `InstanceModel` of `distill.scene.detections`, too.

    Args:
        task: With its head built and its weights loaded.
        size: Side of the square view that an image is fitted into, in pixels.
        precision: What the trainer of the run computes in.
        **settings: See `Predictor`.
    """

    def __init__(self, task: FineTuningModule, size: int, precision: Precision, **settings: Any) -> None:
        super().__init__(precision.convert_module(task), **settings)
        self.size = size
        self.precision = precision

    @property
    def max_detections(self) -> int | None:
        """Most instances that the head finds in one image; None if it has no limit."""
        limit: int | None = self.network.head.max_detections
        return limit

    @property
    def score_threshold(self) -> float:
        """Lowest score of an instance that the head finds."""
        return float(self.network.head.score_threshold)

    @property
    def lowest_score(self) -> float:
        """Score below which the head finds no instance by its construction."""
        return float(self.network.head.lowest_score)

    @torch.no_grad()
    def tile_instances(self, tiles: Sequence[Pixels]) -> list[TileInstances]:
        """Instances of tiles (3, h, w) of any sizes, predicted together: those of `predict` that have a pixel."""
        found = [tile_instances(found) for found in self._found([torch.from_numpy(tile) for tile in tiles], 0)]
        self._count(len(tiles))
        return found

    def _predict(self, pixels: list[Tensor], first: int) -> list[Instances]:
        return [
            Instances(p.image_id, p.boxes.cpu(), p.scores.cpu(), p.labels.cpu(), _compact(p), self.class_names)
            for p in self._found(pixels, first)
        ]

    def _found(self, pixels: list[Tensor], first: int) -> list[Prediction]:
        seen = [
            view(image, [], first + i, fitting_window(image.shape[1], image.shape[2], self.size), self.size)
            for i, image in enumerate(pixels)
        ]
        batch = self.precision.convert_input(torch.stack([image for image, _ in seen]).to(self.device))
        with self.precision.forward_context():
            found: list[Prediction] = self.network.predict_step(
                {"image": batch, "targets": [target for _, target in seen]}, 0
            )
        return found

    def _draw(self, axes: Any, pixels: Tensor, found: Any, score: float) -> None:
        draw_instances(axes, pixels, found, score)


class SemanticPredictor(Predictor):
    """Gives every pixel its class, as `distill test` does with the same checkpoint: a `ClassMap`.

    It is a `ClassModel` of `distill.scene.detections`, too.

    Args:
        task: With its decoder built and its weights loaded.
        zoom: Pixels of the network for each pixel of the file.
        precision: What the trainer of the run computes in.
        **settings: See `Predictor`.
    """

    def __init__(self, task: SegmentationModule, zoom: float, precision: Precision, **settings: Any) -> None:
        super().__init__(precision.convert_module(task), **settings)
        self.zoom = zoom
        self.precision = precision

    @torch.no_grad()
    def tile_logits(self, tiles: Sequence[Pixels]) -> list[NDArray[np.float32]]:
        """Logits (K, h, w) of tiles (3, h, w) of any sizes; the largest of a pixel is the class that `predict` says."""
        pixels = [torch.from_numpy(tile) for tile in tiles]
        found = [logits.numpy() for logits in self._by_size(pixels, self.network.predict_logits)]
        self._count(len(tiles))
        return found

    def _predict(self, pixels: list[Tensor], first: int) -> list[ClassMap]:
        return [ClassMap(labels, self.class_names) for labels in self._by_size(pixels, self.network.predict_labels)]

    def _by_size(self, pixels: list[Tensor], predict: Callable[[Tensor, tuple[int, int]], Tensor]) -> list[Tensor]:
        """What `predict` says of each image; those of one size together."""
        found: dict[int, Tensor] = {}
        for shape in dict.fromkeys(image.shape for image in pixels):
            same = [i for i, image in enumerate(pixels) if image.shape == shape]
            batch = torch.stack([zoomed(pixels[i], self.zoom) for i in same]).to(self.device)
            with self.precision.forward_context():
                result = predict(self.precision.convert_input(batch), (shape[-2], shape[-1]))
            found |= dict(zip(same, result.cpu(), strict=True))
        return [found[i] for i in range(len(pixels))]

    def _draw(self, axes: Any, pixels: Tensor, found: Any, score: float) -> None:
        draw_classes(axes, pixels, found.labels, found.class_names)


class StudentPredictor(Predictor):
    """Computes feature maps in float32: for each image a list of (C_i, H_i, W_i), the last the deepest.

    Images keep their size and are normalised with the student's mean and standard deviation.
    """

    network: StudentBase

    def __init__(self, student: StudentBase, **settings: Any) -> None:
        super().__init__(student, **settings)
        self._normalize = Normalize.of(student).to(self.device)

    def _predict(self, pixels: list[Tensor], first: int) -> list[list[Tensor]]:
        batches = (image[None].to(self.device).float() / 255 for image in pixels)
        return [[features[0].cpu() for features in self.network(self._normalize(batch))] for batch in batches]

    def _draw(self, axes: Any, pixels: Tensor, found: Any, score: float) -> None:
        draw_features(axes, pixels, found[-1])


def _compact(found: Prediction) -> InstanceMasks:
    masks = found.masks
    return (masks if isinstance(masks, InstanceMasks) else InstanceMasks.from_dense(masks)).to("cpu")
