"""Scan orders of a token grid: tables of the token that each step of each direction visits.

A direction is a closed form from the step t to a row y and a column x. Nothing is sorted and no size is assumed even,
so that the tables can be traced with symbolic sizes.

Axes: K directions, T steps along a direction, H W token grid; token y W + x is at row y, column x.
"""

import re

import torch
from torch import Tensor

from distill.errors import unknown_name
from students.scan.errors import ScanArgumentError

_NAMES = ("raster", "bidirectional", "cross", "snake", "window", "atrous")
_SIZES = {"window": 7, "atrous": 2}
_LIMIT = 256  # tables kept
_tables: dict[tuple[str, int, int, torch.device], Tensor] = {}


def scan_order(name: str, height: int, width: int, device: torch.device | str | None = None) -> Tensor:
    """The order table of a token grid, int32 (K, T). Do not write to it: it is kept for the next call.

    | name | K | directions | of |
    |---|---|---|---|
    | raster | 1 | row by row | Mamba; MambaVision |
    | bidirectional | 2 | row by row, and that reversed | Vim |
    | cross | 4 | row by row, column by column, and both reversed | VMamba's SS2D |
    | snake | 4 | rows in alternating direction, columns likewise, and both reversed | PlainMamba |
    | window:s | 2 | windows of s x s row by row, each row by row inside; and that reversed; 7 by default | LocalMamba |
    | atrous:s | s² | every s-th row and column, one direction for each offset; 2 by default | EfficientVMamba |

    Windows at the right and the bottom are cut where s does not divide the grid. The directions of "atrous" each visit
    their own sub-grid, from even rows row by row and from odd rows column by column, so that T is about H W / s²; where
    s does not divide the grid, the shorter rows of the table end in -1. EfficientVMamba pads the grid instead.

    Args:
        name: One of the above; "window" and "atrous" take a size after a colon.
        height: H, at least 1.
        width: W, at least 1.
        device: Of the table; the CPU by default.

    Raises:
        ScanArgumentError: No such order, or one whose given size exceeds the larger side of the grid. The default
            sizes serve every grid.
        ValueError: The name is not a string, or H or W is not positive.

    Source: Vim (https://arxiv.org/abs/2401.09417); VMamba (https://arxiv.org/abs/2401.10166), `CrossScan`; PlainMamba
    (https://arxiv.org/abs/2403.17695), whose learnt direction vectors are the caller's; LocalMamba
    (https://arxiv.org/abs/2403.09338), without its search over directions; EfficientVMamba
    (https://arxiv.org/abs/2403.09977), `EfficientScan`.
    """
    kind, size = _parse(name)
    if height < 1 or width < 1:
        raise ValueError(f"height and width are {height} and {width}, both must be at least 1")
    _check_size(kind, size, height, width)
    place = torch.device("cpu" if device is None else device)
    if torch.compiler.is_compiling():
        return _build(kind, size, height, width, place)
    key = (f"{kind}:{size}", height, width, place)
    if key in _tables:
        return _tables[key]
    with torch.inference_mode(False):  # a table of inference mode could not be kept for training
        table = _build(kind, size, height, width, place)
    if type(table) is Tensor:  # and no fake tensor
        if len(_tables) >= _LIMIT:
            _tables.clear()
        _tables[key] = table
    return table


def _parse(name: str) -> tuple[str, int]:
    if not isinstance(name, str):
        raise ValueError(f"name is of type {type(name).__name__}, expected a string")
    match = re.fullmatch(r"([a-z]+)(?::([1-9][0-9]{0,5}))?", name)
    kind = match[1] if match else name
    if match is None or kind not in _NAMES or (match[2] and kind not in _SIZES):
        names = [f"{kind}:{_SIZES[kind]}" if kind in _SIZES else kind for kind in _NAMES]
        raise ScanArgumentError(str(unknown_name("scan order", name, names)))
    return kind, int(match[2]) if match[2] else _SIZES.get(kind, 0)


def _check_size(kind: str, size: int, height: int, width: int) -> None:
    """Refuses sizes that no grid of this size can mean: "atrous:999999" has 10¹² directions.

    A size up to the default is compared with no symbolic size, which would compile a graph for each of two outcomes.
    """
    if size > _SIZES.get(kind, 0) and height < size and width < size:
        raise ScanArgumentError(
            f"scan order {kind}:{size} does not fit a grid of {height} x {width} tokens: "
            f"the size may be up to {max(height, width)}"
        )


def _build(kind: str, size: int, height: int, width: int, device: torch.device) -> Tensor:
    step = torch.arange(height * width, dtype=torch.int32, device=device)
    if kind == "atrous":
        return torch.stack([_lattice(size, index, height, width, device) for index in range(size * size)])
    if kind == "raster":
        return step.unsqueeze(0)
    if kind == "bidirectional":
        ahead = [step]
    elif kind == "cross":
        ahead = [step, step % height * width + step // height]
    elif kind == "snake":
        ahead = [
            step // width * width + _alternate(step // width, step % width, width),
            _alternate(step // height, step % height, height) * width + step // height,
        ]
    else:
        ahead = [_windows(step, size, height, width)]
    return torch.stack([*ahead, *(direction.flip(0) for direction in ahead)])


def _alternate(line: Tensor, position: Tensor, length: int) -> Tensor:
    """Positions along lines of `length`, backwards in every second line."""
    return torch.where(line % 2 == 1, length - 1 - position, position)


def _windows(step: Tensor, size: int, height: int, width: int) -> Tensor:
    """Tokens of windows of `size`, row by row, each row by row inside."""
    band = step // (size * width)  # a row of windows
    rows = (height - band * size).clamp(max=size)  # of the band
    inside = step - band * size * width
    window = inside // (rows * size)
    cols = (width - window * size).clamp(max=size)  # of the window
    inside = inside - window * rows * size
    return (band * size + inside // cols) * width + window * size + inside % cols


def _lattice(size: int, index: int, height: int, width: int, device: torch.device) -> Tensor:
    """Tokens of one of the s² sub-grids, row by row or column by column, then -1."""
    left, top = divmod(index, size)
    rows, cols = (height - top + size - 1) // size, (width - left + size - 1) // size
    largest = ((height + size - 1) // size) * ((width + size - 1) // size)
    step = torch.arange(largest, dtype=torch.int32, device=device)
    if top % 2 == 0:
        y, x = step // max(cols, 1), step % max(cols, 1)
    else:
        y, x = step % max(rows, 1), step // max(rows, 1)
    return torch.where(step < rows * cols, (top + y * size) * width + left + x * size, -1)
