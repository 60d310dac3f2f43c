"""Images of a land-cover data set with the classes of their masks as colours."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torchvision.transforms.v2 import functional as F

from distill.colours import class_colour, class_rgb
from distill.curate.preview.sheet import OPACITY, grid_of, reduced_size, resized
from distill.data.class_table import IGNORE, ClassTable
from distill.data.images import read_image, size_fault
from distill.data.label_pairs import Pair
from distill.errors import UserError

_UNLABELLED = "black"


def class_sheet(
    pairs: Sequence[Pair],
    table: ClassTable,
    count: int = 12,
    seed: int = 0,
    names: Sequence[str] = (),
    bands: Sequence[int] | None = None,
) -> Figure:
    """Draws the images `names`, or `count` images drawn by `seed`, with the classes of their masks as colours.

    Args:
        pairs: Images and masks.
        table: What the masks mean.
        count: How many images.
        seed: Another seed shows other images.
        names: Paths or file names, with or without suffix.
        bands: Which bands of the images are shown, see `distill.data.images.read_image`.

    Raises:
        UserError: An image or a mask cannot be read, one is not of the size of the other, or one of `names` is not
            there.
    """
    if names:
        chosen = [_named(name, pairs) for name in names]
    else:
        chosen = [pairs[i] for i in np.random.default_rng(seed).permutation(len(pairs))[:count]]
    read = [(pair, read_image(pair.image, bands), table.read(pair.mask)) for pair in chosen]
    figure, grid, side = grid_of([labels.shape for _, _, labels in read])
    colours = np.zeros((IGNORE + 1, 3), np.float32)
    colours[: len(table.names)] = class_rgb(len(table.names))
    for axes, (pair, pixels, labels) in zip(grid, read, strict=False):
        image = f"its image {str(pair.image)!r} is"
        if fault := size_fault(f"mask {str(pair.mask)!r}", labels.shape, image, pixels.shape[-2:]):
            raise UserError(fault)
        size = reduced_size(labels.shape[0], labels.shape[1], side)
        shown = resized(pixels, size)
        nearest = F.resize(labels[None], list(size), interpolation=F.InterpolationMode.NEAREST_EXACT)[0].numpy()
        axes.imshow((1 - OPACITY) * shown + OPACITY * colours[nearest])
        axes.set_title(pair.image.name, fontsize=8)
        axes.set_axis_off()
    patches = [Patch(color=class_colour(label), label=name) for label, name in enumerate(table.names)]
    patches.append(Patch(color=_UNLABELLED, label="not labelled"))
    figure.legend(handles=patches, loc="outside lower center", ncols=min(6, len(patches)), frameon=False)
    return figure


def _named(name: str, pairs: Sequence[Pair]) -> Pair:
    for pair in pairs:
        if name in (pair.image.name, pair.image.stem, str(pair.image)):
            return pair
    raise UserError(f"--image {name!r} is no image of that part; its first is {pairs[0].image.name!r}")
