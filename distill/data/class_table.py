"""The classes of a segmentation mask by index or by colour, and the values that are not labelled.

Axes: H W pixels.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.data.ignore import IGNORE as IGNORE
from distill.data.images import read_mask
from distill.errors import UserError

_UNKNOWN = 254
_TABLE = 1 << 24  # values, and colours, that are looked up in a table

Value = int | Sequence[int]


class ClassTable:
    """The classes of a data set, and the value that stands for each in its masks.

    Indices of classes are 0 to 65535; ignored ones may be negative, as nodata often is (-9999).

    Args:
        classes: Value of each class by name, in label order: an index, or a colour [red, green, blue].
        ignore: Further values, of the same kind, that mean "not labelled".

    Attributes:
        names: Class names in label order.
        colours: Whether classes are colours.
        label_of: The label of every listed value, `IGNORE` of those that mean "not labelled"; colours as one number.

    Raises:
        UserError: No class, too many, indices and colours mixed, a value out of its range, or one that is used twice.
    """

    def __init__(self, classes: Mapping[str, Value], ignore: Sequence[Value] = ()) -> None:
        self.names = list(classes)
        if not 2 <= len(self.names) <= _UNKNOWN:
            raise UserError(f"data.classes has {len(self.names)} names; segmentation takes 2 to {_UNKNOWN}")
        values: list[Value] = [*classes.values(), *ignore]
        self.colours = not isinstance(values[0], int)
        codes = [self._code(value) for value in values]
        if not self.colours and (beyond := [code for code in codes[: len(classes)] if not 0 <= code < 2**16]):
            raise UserError(f"the mask value {beyond[0]} in data.classes is not in 0 to 65535")
        for value, code in zip(values, codes, strict=True):
            if codes.count(code) > 1:
                raise UserError(f"the mask value {value} is listed twice in data.classes and ignore")
        self._codes = codes
        self.label_of = dict(zip(codes, [*range(len(self.names)), *[IGNORE] * len(ignore)], strict=True))
        near = {code: label for code, label in self.label_of.items() if 0 <= code < _TABLE}
        self._far = {code: label for code, label in self.label_of.items() if code not in near}
        # Label of every value; the last entry stands for all that are larger. For colours 16 MB.
        self._labels = np.full(max(near, default=0) + 2, _UNKNOWN, np.uint8)
        self._labels[list(near)] = list(near.values())

    def read(self, path: Path) -> Tensor:
        """Labels (H, W) uint8 of a mask file, `IGNORE` where it is not labelled.

        Raises:
            BrokenImage: The file cannot be decoded.
            UserError: It holds a value that the table lacks, or colours where the table has indices.
        """
        values = read_mask(path, self.colours)
        labels = self._labels.take(values, mode="clip")
        if values.dtype.kind == "i":
            labels[values < 0] = _UNKNOWN
        for code, label in self._far.items():
            labels[values == code] = label
        unknown = labels == _UNKNOWN
        if unknown.any():
            raise self._unknown_value(path, values, unknown)
        return torch.from_numpy(labels)

    def _code(self, value: Value) -> int:
        """The value as `read_mask` gives it."""
        if isinstance(value, int) == self.colours:
            raise UserError(f"data.classes and ignore mix indices with colours (such as {value}); use one")
        if isinstance(value, int):
            if not -(2**31) <= value < 2**32:
                raise UserError(f"the mask value {value} in data.ignore is not in {-(2**31)} to {2**32 - 1}")
            return value
        if len(value) != 3 or not all(0 <= part <= 255 for part in value):
            raise UserError(f"the colour {list(value)} in data.classes or ignore is not three numbers 0..255")
        return value[0] << 16 | value[1] << 8 | value[2]

    def _unknown_value(self, path: Path, values: NDArray[Any], unknown: NDArray[np.bool_]) -> UserError:
        row, column = np.argwhere(unknown)[0].tolist()
        shown = map(self._shown, self._codes)
        return UserError(
            f"mask {str(path)!r} has the {'colour' if self.colours else 'value'} "
            f"{self._shown(int(values[row, column]))} at pixel x={column} y={row} ({int(unknown.sum())} such pixels); "
            f"known are {', '.join(shown)}; correct the mask, or add the value to data.classes or ignore"
        )

    def _shown(self, code: int) -> str:
        return f"[{code >> 16}, {code >> 8 & 255}, {code & 255}]" if self.colours else str(code)
