"""Views of an image and its labels: zoomed, cropped, mirrored and turned for training; whole for evaluation.

Axes: C = 3 channels RGB in [0, 1], S side of a training view, H W pixels of the file, h w of the zoomed file.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from distill.data.broken import BrokenImages
from distill.data.class_table import IGNORE, ClassTable
from distill.data.label_pairs import Pair
from distill.data.loader import Draw, randomness_of
from distill.data.reader import ImageReader
from distill.data.views.augmentation import Augmentation
from distill.data.views.instances import PADDING, Window, jittered_window
from distill.errors import UserError

Sample = dict[str, Tensor]


class SemanticViews(Dataset[Sample]):
    """Images with a label for each pixel.

    Indexed with a `Draw` it gives a training view, a function of (seed, draw). Indexed with an integer it gives the
    whole image, zoomed, with labels at the resolution of the file, which scores refer to.

    Args:
        pairs: Images and masks.
        table: What the masks mean.
        on_error: What to do with broken files, see `BrokenImages`.
        zoom: Pixels of the network for each pixel of the file.
        image_size: Side S of a training view.
        scale: Range of the random factor to `zoom` in training.
        flip: Whether training views are mirrored in both directions.
        augmentation: Further changes of training views.
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
        scale: tuple[float, float] = (1.0, 1.0),
        flip: bool = False,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        reader: ImageReader | None = None,
    ) -> None:
        self.pairs = list(pairs)
        self.table = table
        self.zoom = zoom
        self.image_size = image_size
        self.scale = scale
        self.flip = flip
        self.augmentation = augmentation or Augmentation()
        self.seed = seed
        self.broken = BrokenImages(len(self.pairs), on_error)
        self.reader = reader or ImageReader(len(self.pairs))

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, draw: Draw | int) -> Sample:
        """`image` float32 (3, S, S) and `label` uint8 (S, S); of a whole image (3, h, w) and (H, W)."""
        index = draw if isinstance(draw, int) else draw.index
        _, (pixels, labels) = self.broken.read(index, self._read)
        height, width = labels.shape
        if isinstance(draw, int):
            return {"image": zoomed(pixels, self.zoom), "label": labels}
        # The window's random factor counts from the zoom at which the long side fills the view.
        fit = self.zoom * max(height, width) / self.image_size
        factors = self.scale[0] * fit, self.scale[1] * fit
        with randomness_of(self.seed, draw):
            window = jittered_window(height, width, self.image_size, factors, self.flip, self.augmentation.rotate)
            crop = self.augmentation.recolour(F.crop(pixels, window.top, window.left, window.height, window.width))
        return _show(crop, labels, window, self.image_size)

    def _read(self, index: int) -> tuple[Tensor, Tensor]:
        pair = self.pairs[index]
        pixels, labels = self.reader.read(index, pair.image), self.table.read(pair.mask)
        if pixels.shape[-2:] != labels.shape:
            sizes = [f"{shape[-1]}x{shape[-2]}" for shape in (labels.shape, pixels.shape)]
            raise UserError(
                f"mask {str(pair.mask)!r} is {sizes[0]}, but its image {str(pair.image)!r} is {sizes[1]} (width x "
                "height); they must cover the same pixels"
                + ", and the image's EXIF orientation turns it"
                * self.reader.was_turned(index)
            )
        return pixels, labels


def zoomed(pixels: Tensor, zoom: float) -> Tensor:
    """A whole image as evaluation sees it: float32 (3, h, w) in [0, 1] of uint8 (3, H, W), `zoom` times as large."""
    sides = [max(1, round(side * zoom)) for side in pixels.shape[-2:]]
    return F.resize(pixels, sides, antialias=True).float() / 255


def _show(crop: Tensor, labels: Tensor, window: Window, size: int) -> Sample:
    """What `window` shows, padded at the bottom and right; `crop` holds its pixels already."""
    sides = [window.out_height, window.out_width]
    image = F.resize(crop, sides, antialias=True).float() / 255
    label = F.crop(labels[None], window.top, window.left, window.height, window.width)
    label = F.resize(label, sides, interpolation=F.InterpolationMode.NEAREST_EXACT)
    mirrored = [axis for axis, wanted in ((-1, window.mirror_x), (-2, window.mirror_y)) if wanted]
    image, label = (part.flip(mirrored).rot90(window.turns, dims=(-2, -1)) for part in (image, label))
    height, width = image.shape[-2:]
    canvas = torch.tensor(PADDING)[:, None, None].repeat(1, size, size)
    canvas[:, :height, :width] = image
    padded = torch.full((size, size), IGNORE, dtype=torch.uint8)
    padded[:height, :width] = label[0]
    return {"image": canvas, "label": padded}


def stack_by_size(samples: list[Sample]) -> list[Sample]:
    """Batches of evaluation: samples of equal sizes stacked, in order of their first; files differ in size."""
    groups: dict[tuple[torch.Size, torch.Size], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample["image"].shape, sample["label"].shape), []).append(sample)
    return [{key: torch.stack([s[key] for s in group]) for key in ("image", "label")} for group in groups.values()]
