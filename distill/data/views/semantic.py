"""Views of an image and its labels: zoomed, cropped, mirrored and turned for training; whole for evaluation.

Axes: C = 3 channels RGB in [0, 1], S side of a training view, H W pixels of the file, h w of the zoomed file.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from distill.data.class_table import IGNORE, ClassTable
from distill.data.images import size_fault
from distill.data.label_pairs import Pair
from distill.data.reader import ImageReader
from distill.data.views.augmentation import Augmentation
from distill.data.views.base import Views
from distill.data.views.window import Window, jittered_window, show
from distill.errors import UserError

Sample = dict[str, Tensor]
Content = tuple[Tensor, Tensor]


class SemanticViews(Views[Sample]):
    """Images with a label for each pixel: `image` float32 and `label` uint8.

    A training view has the sides (3, S, S) and (S, S). An evaluation view is the whole image, zoomed (3, h, w), with
    labels (H, W) at the resolution of the file, which scores refer to.

    Args:
        pairs: Images and masks.
        table: What the masks mean.
        on_error: What to do with broken files, see `BrokenImages`.
        zoom: Pixels of the network for each pixel of the file.
        image_size: Side S of a training view.
        scale_jitter: Range of the random factor to `zoom` in training.
        flip: Whether training views are mirrored in both directions.
        turns: Whether they are turned by multiples of 90 degrees.
        augmentation: Light, colour and speckle of training views.
        seed: Seed of the training views.
        reader: Reads them; by default with the bands that `distill.data.images.read_image` chooses.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        table: ClassTable,
        on_error: str,
        zoom: float,
        image_size: int = 1,
        scale_jitter: tuple[float, float] = (1.0, 1.0),
        flip: bool = False,
        turns: bool = False,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        reader: ImageReader | None = None,
    ) -> None:
        super().__init__(len(pairs), on_error, seed, reader)
        self.pairs = list(pairs)
        self.table = table
        self.zoom = zoom
        self.image_size = image_size
        self.scale_jitter = scale_jitter
        self.flip = flip
        self.turns = turns
        self.augmentation = augmentation or Augmentation()

    def read(self, index: int) -> Content:
        """uint8 RGB (3, H, W) and labels (H, W).

        Raises:
            BrokenImage: One of the files cannot be decoded.
            UserError: They differ in size, or the mask holds a value that the table lacks.
        """
        pair = self.pairs[index]
        pixels, labels = self.reader.read(index, pair.image), self.table.read(pair.mask)
        image = f"its image {str(pair.image)!r} is"
        if fault := size_fault(f"mask {str(pair.mask)!r}", labels.shape, image, pixels.shape[-2:]):
            turned = ", and the image's EXIF orientation turns it" * self.reader.was_turned(index)
            raise UserError(f"{fault} (width x height); they must cover the same pixels{turned}")
        return pixels, labels

    def fixed(self, index: int, content: Content) -> Sample:
        """The whole image."""
        pixels, labels = content
        return {"image": zoomed(pixels, self.zoom), "label": labels}

    def random(self, index: int, content: Content, size: int) -> Sample:
        """A jittered window, padded with pixels that have no label."""
        pixels, labels = content
        height, width = labels.shape
        # The window's random factor counts from the zoom at which the long side fills the view. A view of another side
        # shows as much of the ground, at a lower resolution: the zoom shrinks with it.
        fit = self.zoom * max(height, width) / self.image_size
        factors = self.scale_jitter[0] * fit, self.scale_jitter[1] * fit
        window = jittered_window(height, width, size, factors, self.flip, self.turns)
        image, _ = show(pixels, window, size, self.augmentation.recolour)
        return {"image": image, "label": _labels(labels, window, size)}

    def name(self, index: int) -> str:
        """The file name of the image."""
        return self.pairs[index].image.name


def zoomed(pixels: Tensor, zoom: float) -> Tensor:
    """A whole image as evaluation sees it: float32 (3, h, w) in [0, 1] of uint8 (3, H, W), `zoom` times as large."""
    sides = [max(1, round(side * zoom)) for side in pixels.shape[-2:]]
    return F.resize(pixels, sides, antialias=True).float() / 255


def _labels(labels: Tensor, window: Window, size: int) -> Tensor:
    """What a window shows of labels (H, W), padded at the bottom and right to (S, S)."""
    sides = [window.out_height, window.out_width]
    resized = F.resize(window.crop(labels[None]), sides, interpolation=F.InterpolationMode.NEAREST_EXACT)
    label = window.oriented(resized[0])
    padded = torch.full((size, size), IGNORE, dtype=torch.uint8)
    padded[: label.shape[0], : label.shape[1]] = label
    return padded


def stack_by_size(samples: list[Sample]) -> list[Sample]:
    """Batches of evaluation: samples of equal sizes stacked, in order of their first; files differ in size."""
    groups: dict[tuple[torch.Size, torch.Size], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample["image"].shape, sample["label"].shape), []).append(sample)
    return [{key: torch.stack([s[key] for s in group]) for key in ("image", "label")} for group in groups.values()]
