"""Which images there are: those of a folder, of a list, or inside tars; millions of them in a few arrays.

Axes: N images.
"""

import copy
import gzip
import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from distill.data.checks import existing_folder
from distill.data.images import SUFFIXES, image_names, is_file
from distill.data.names import Names
from distill.data.packed import PackedFile, Source
from distill.data.tar_index import tar_indices
from distill.errors import UserError

logger = logging.getLogger(__name__)

_LISTS = (".txt", ".txt.gz")
_CHUNK = 1 << 16  # names that are Python objects at a time


class ImageList(Sequence[Source]):
    """Images by number: what to open, its name and its size.

    Args:
        names: What a subclass makes their names of, by row.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self._rows = np.arange(len(names), dtype=np.int32)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, number: int) -> Source: ...
    @overload
    def __getitem__(self, number: slice) -> list[Source]: ...
    def __getitem__(self, number: int | slice) -> Source | list[Source]:
        """What to open."""
        if isinstance(number, slice):
            return [self._file(int(row)) for row in self._rows[number]]
        return self._file(int(self._rows[number]))

    def name(self, number: int) -> str:
        """Its name below the root, with slashes; the same whether a tar is unpacked or not."""
        return next(self._names_of(self._rows[[number]]))

    def names(self) -> Iterator[str]:
        """The names of all images; many times as fast as one by one."""
        for start in range(0, len(self), _CHUNK):
            yield from self._names_of(self._rows[start : start + _CHUNK])

    def size(self, number: int) -> int:
        """Bytes of the file."""
        return self._size(int(self._rows[number]))

    def only(self, numbers: NDArray[Any] | Sequence[int]) -> Self:
        """Some of the images, in this order; what is known of them is shared."""
        chosen = copy.copy(self)
        chosen._rows = self._rows[np.asarray(numbers, np.int64)]
        return chosen

    @abstractmethod
    def blocks(self) -> NDArray[np.int32]:
        """The number (N,) of the tar or folder that each image lies in."""

    @abstractmethod
    def _file(self, row: int) -> Source: ...

    @abstractmethod
    def _size(self, row: int) -> int: ...

    def _names_of(self, rows: NDArray[np.int32]) -> Iterator[str]:
        return self._names.many(rows)


class LooseImages(ImageList):
    """Image files.

    Args:
        root: Folder that the names are relative to.
        names: Of the files.
    """

    def __init__(self, root: Path, names: Names) -> None:
        super().__init__(names)
        self.root = root

    @classmethod
    def of(cls, root: Path, paths: Sequence[Path]) -> "LooseImages":
        """Files below `root`, in their order."""
        return cls(root, Names.of(path.relative_to(root).as_posix() for path in paths))

    def blocks(self) -> NDArray[np.int32]:
        """The number of the folder that each image lies in."""
        numbers: dict[str, int] = {}
        folders = (name.rpartition("/")[0] for name in self.names())
        return np.fromiter((numbers.setdefault(folder, len(numbers)) for folder in folders), np.int32, len(self))

    def _file(self, row: int) -> Path:
        return self.root / self._names[row]

    def _size(self, row: int) -> int:
        return self._file(row).stat().st_size


class PackedImages(ImageList):
    """Images inside tars, in the order of the names that they have once each tar is unpacked into a folder of its name.

    Args:
        tars: The tars.
        whole: Whether there is one tar only, whose name is that of the root.

    Raises:
        UserError: A tar cannot be used, or none holds an image.
    """

    def __init__(self, tars: Sequence[Path], whole: bool = False) -> None:
        self._tars = sorted(tars, key=lambda tar: f"{tar.stem}/")
        indices = tar_indices(self._tars)
        super().__init__(Names.joined(index.names for index in indices))
        self._whole = whole
        self._ends = np.cumsum([len(index.names) for index in indices])
        self._offsets = np.concatenate([index.offsets for index in indices])
        self._sizes = np.concatenate([index.sizes for index in indices])

    def blocks(self) -> NDArray[np.int32]:
        """The number of the tar that each image lies in."""
        return self._parts(self._rows).astype(np.int32)

    def _parts(self, rows: Any) -> Any:
        return np.searchsorted(self._ends, rows, side="right")

    def _file(self, row: int) -> PackedFile:
        return PackedFile(
            self._tars[int(self._parts(row))], self._names[row], int(self._offsets[row]), int(self._sizes[row])
        )

    def _size(self, row: int) -> int:
        return int(self._sizes[row])

    def _names_of(self, rows: NDArray[np.int32]) -> Iterator[str]:
        inside = self._names.many(rows)
        if self._whole:
            return inside
        tars = self._parts(rows).tolist()
        return (f"{self._tars[part].stem}/{name}" for part, name in zip(tars, inside, strict=True))


def list_images(root: str | Path, key: str = "root") -> ImageList:
    """The images of a folder, of a list, of a tar, or of the tars in a folder.

    A list is a text file, `.txt` or `.txt.gz`, with a path on each line, relative to the folder that it lies in. In a
    folder that holds images, tars are left alone.

    Args:
        root: The folder, list or tar.
        key: The recipe key that an error names.

    Raises:
        UserError: There is no image, or a file cannot be used.
    """
    path = Path(root)
    if path.is_file() and path.name.lower().endswith(_LISTS):
        return _listed(path, key)
    if path.is_file() and ".tar" in path.suffixes:  # also those that are refused, because they are compressed
        return _packed([path], path, key, whole=True)
    folder = existing_folder(key, str(root))
    names = image_names(folder)
    tars = [tar for tar in folder.glob("*.tar") if is_file(tar)]
    if tars and not names:
        return _packed(tars, path, key)
    if tars:
        logger.warning(
            "%s %r holds images, so its %d .tar files are not read; move either into a folder of its own",
            key, str(root), len(tars),
        )  # fmt: skip
    if not names:
        raise UserError(
            f"{key} {str(root)!r} holds no images; files must end in {', '.join(SUFFIXES)} and may lie in subfolders, "
            "or in .tar files in this folder"
        )
    return LooseImages(folder, Names.of(names))


def _packed(tars: Sequence[Path], root: Path, key: str, whole: bool = False) -> PackedImages:
    images = PackedImages(tars, whole)
    if not len(images):
        raise UserError(f"{key} {str(root)!r} holds no images in its tars; files must end in {', '.join(SUFFIXES)}")
    return images


def _listed(path: Path, key: str) -> LooseImages:
    try:
        opened: Callable[..., Any] = gzip.open if path.suffix == ".gz" else Path.open
        with opened(path, "rt", encoding="utf-8-sig") as file:
            lines = {line.strip().removeprefix("./") for line in file}
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{key} {str(path)!r} cannot be read ({error}); give a text file with a path a line") from error
    names = sorted(lines - {""})
    if not names:
        raise UserError(f"{key} {str(path)!r} is empty; it must name an image a line")
    if not is_file(path.parent / PurePosixPath(names[0])):
        raise UserError(
            f"{key} {str(path)!r} names {names[0]!r}, which is not there; paths are relative to the folder of the list"
        )
    return LooseImages(path.parent, Names.of(names))
