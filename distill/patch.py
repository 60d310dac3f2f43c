"""The rectangle that a mask fills; needs no PyTorch."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Patch(NamedTuple):
    """The rectangle of an image that a mask fills."""

    top: int
    left: int
    pixels: NDArray[np.uint8]  # (h, w), 0 and 1

    def trimmed(self) -> "Patch":
        """Without empty rows and columns at its edges; of shape (0, 0) if it is empty."""
        rows, columns = (np.flatnonzero(self.pixels.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            return Patch(self.top, self.left, self.pixels[:0, :0])
        inner = self.pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return Patch(self.top + int(rows[0]), self.left + int(columns[0]), inner)
