"""Range checks of the arguments of data modules, each with a one-line error."""

import logging
from pathlib import Path
from typing import TypeVar

from distill.errors import UserError

logger = logging.getLogger(__name__)
_Number = TypeVar("_Number", int, float)


def at_least(key: str, value: _Number, minimum: int) -> _Number:
    """Returns `value`.

    Raises:
        UserError: It is below `minimum`; `key` names the argument at fault.
    """
    if value < minimum:
        raise UserError(f"{key} is {value}; it must be {minimum} or more")
    return value


def positive(key: str, value: float) -> float:
    """Returns `value`.

    Raises:
        UserError: It is not above 0; `key` names the argument at fault.
    """
    if value <= 0:
        raise UserError(f"{key} is {value}; it must be above 0")
    return value


def valid_seed(key: str, value: int) -> int:
    """Returns `value`.

    Raises:
        UserError: It is no seed that NumPy takes; `key` names the argument at fault.
    """
    if not 0 <= value < 2**32:
        raise UserError(f"{key} is {value}; it must lie in 0 to {2**32 - 1}")
    return value


def share(key: str, value: float) -> float:
    """Returns `value`.

    Raises:
        UserError: It is not 0 or more and below 1; `key` names the argument at fault.
    """
    if not 0 <= value < 1:
        raise UserError(f"{key} is {value}; it must be 0 or more and below 1")
    return value


def ordered_pair(key: str, pair: tuple[float, float], highest: float) -> tuple[float, float]:
    """Returns the range `pair`.

    Raises:
        UserError: It is not two numbers 0 < min <= max <= `highest`; `key` names the argument at fault.
    """
    if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= highest:
        raise UserError(f"{key} is {list(pair)}; it must be [min, max] with 0 < min <= max <= {highest:g}")
    return pair[0], pair[1]


def band_numbers(key: str, bands: list[int] | None) -> list[int] | None:
    """Returns `bands`.

    Raises:
        UserError: They are not one to three numbers of 1 or more; `key` names the argument at fault.
    """
    if bands is not None and not (1 <= len(bands) <= 3 and min(bands) >= 1):
        raise UserError(f"{key} is {bands}; give one to three band numbers, counted from 1")
    return bands


def say_small_batches(batch_size: int, images: int) -> None:
    """Logs that a batch holds fewer images than asked for, where there are not more to train on."""
    if images < batch_size:
        logger.warning(
            "data.batch_size is %d, but there %s: a batch holds no more",
            batch_size,
            "is only 1 training image" if images == 1 else f"are only {images} training images",
        )


def existing_file(key: str, path: str) -> Path:
    """Returns `path` as a `Path`.

    Raises:
        UserError: No such file; `key` names the argument at fault.
    """
    file = Path(path)
    if not file.is_file():
        what = "is a folder, not a file" if file.is_dir() else "does not exist"
        raise UserError(f"{key} {path!r} {what}; give a COCO file of annotations")
    return file


def existing_folder(key: str, path: str) -> Path:
    """Returns `path` as a `Path`.

    Raises:
        UserError: No such folder; `key` names the argument at fault.
    """
    folder = Path(path)
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise UserError(f"{key} {path!r} {what}; give the folder that holds the images")
    return folder
