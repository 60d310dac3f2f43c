"""The content of an unpacked archive: folders and files by name, whatever the case of their letters.

Case differs because archives are packed and unpacked by systems that ignore it.
"""

from collections.abc import Collection, Iterable
from pathlib import Path

from distill.data.images import SUFFIXES, is_leftover
from distill.errors import UserError


def entries(folder: Path) -> list[Path]:
    """Files and folders in `folder`, sorted, without what other programs left there; none if it is no folder.

    Raises:
        UserError: It cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not is_leftover(path.name)) if folder.is_dir() else []
    except OSError as error:
        raise UserError(f"folder {str(folder)!r} cannot be read ({error.strerror}); make it readable") from error


def subfolders(folder: Path, depth: int = 3) -> list[Path]:
    """`folder` and the folders below it, the nearest first: archives unpack into one or two folders of their own.

    Links are followed, but each folder is listed once, so that loops end.
    """
    found, level, seen = [folder], [folder], {folder.resolve()}
    for _ in range(depth):
        inner = {path.resolve(): path for parent in level for path in entries(parent) if path.is_dir()}
        level = [path for place, path in inner.items() if place not in seen]
        seen |= inner.keys()
        found += level
    return found


def below(base: Path, name: str) -> Path:
    """The path `name`, parts apart by slashes, below `base`; as given where there is no such path in any case."""
    path = base
    for part in name.split("/"):
        exact = path / part
        others = [] if exact.exists() else [entry for entry in entries(path) if entry.name.lower() == part.lower()]
        path = others[0] if others else exact
    return path


def files_by_stem(folders: Iterable[Path], suffixes: Collection[str]) -> dict[str, Path]:
    """The files in `folders` by name without suffix; `suffixes` are in small letters, files may have any."""
    return {
        path.stem: path for folder in folders for path in reversed(entries(folder)) if path.suffix.lower() in suffixes
    }


def images_by_stem(folders: Iterable[Path]) -> dict[str, Path]:
    """The image files in `folders` by name without suffix, because annotations may disagree about the suffix."""
    return files_by_stem(folders, SUFFIXES)
