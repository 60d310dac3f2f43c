"""Training images as an exported file gets them, to find the ranges of its activations.

Axes: H W pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from distill.exported.facts import ExportedFacts
from distill.exported.views import fitted, padded_to, zoomed
from distill.scene.detections import Pixels

Inputs = dict[str, Any]
Calibration = Callable[[], Iterator[Inputs]]  # the inputs of one tile after the other, from the first


def calibration_inputs(images: Sequence[Pixels], facts: ExportedFacts) -> Iterator[Inputs]:
    """Inputs of a file for each image (3, H, W); what is larger than a tile of the run counts by one of its tiles."""
    for number, pixels in enumerate(images):
        plan = list(facts.size.plan(*pixels.shape[-2:]))
        tile = plan[number % len(plan)]
        cut = pixels[:, tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
        if facts.image_size is not None:
            image, size = fitted(cut, facts.image_size)
        else:
            image = zoomed(cut, facts.zoom)
            size = (image.shape[-2], image.shape[-1])
        yield {"image": padded_to(image, facts.stride, facts.smallest), "size": np.array(size, np.int64)}
