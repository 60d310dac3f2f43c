"""Which files a prediction reads, and how its outputs are called."""

import glob
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from distill.data.images import find_images, is_leftover
from distill.errors import UserError
from distill.scene.journal import FOLDER


@dataclass(frozen=True)
class Source:
    """A file to predict.

    Attributes:
        path: The file.
        name: Of its outputs, without suffix; no two sources share one.
    """

    path: Path
    name: str


def find_sources(given: str | PathLike[str] | Iterable[str | PathLike[str]], out: Path) -> list[Source]:
    """The files that paths, folders and patterns name, each once, sorted by name.

    Of a folder those files count that end as images do, nested ones included, but none in the output folder.

    Args:
        given: Files, folders, or patterns such as "scenes/*.tif".
        out: The output folder.

    Raises:
        UserError: There is no such file, a folder holds no image, or the outputs would lie among the sources.
    """
    each = [given] if isinstance(given, str | PathLike) else list(given)
    if not each:
        raise UserError("no source is given; name files, folders or patterns such as 'scenes/*.tif'")
    found: dict[Path, Path] = {}
    for one in each:
        for path in _files(str(one), out.resolve()):
            found.setdefault(path.resolve(), path)
    if any(place.parent == out.resolve() for place in found):
        raise UserError(f"--out {out} is a folder of sources, among which outputs would be lost; give another")
    names = output_names(sorted(found))
    return sorted((Source(found[place], name) for place, name in names.items()), key=lambda source: source.name)


def output_names(paths: Sequence[Path]) -> dict[Path, str]:
    """A name for each file: its stem; of equal stems, with as many folders before it as tell them apart.

    Upper and lower case count as equal, as on some disks. What still is equal, such as a.jpg and a.png of one folder,
    has its suffix in its name.

    Args:
        paths: Absolute, each once, sorted.
    """
    by_stem = defaultdict(list)
    for path in paths:
        by_stem[path.stem.casefold()].append(path)
    names: dict[Path, str] = {}
    for same in by_stem.values():
        names.update(_apart(same))
    taken = Counter(name.casefold() for name in names.values())
    for path, name in names.items():  # "a_b.tif" beside "a/b.tif" and "c/b.tif"
        if taken[name.casefold()] > 1:
            number = 2
            while f"{name}_{number}".casefold() in taken:
                number += 1
            names[path] = f"{name}_{number}"
            taken[names[path].casefold()] += 1
            taken[name.casefold()] -= 1
    return names


def _apart(same: Sequence[Path]) -> dict[Path, str]:
    """Names of files of one stem."""
    if len(same) == 1:
        return {same[0]: same[0].stem}
    depth = max(len(path.parts) for path in same)
    for folders in range(1, depth):
        names = {path: "_".join([*path.parent.parts[1:][-folders:], path.stem]) for path in same}
        if len({name.casefold() for name in names.values()}) == len({path.parent for path in same}):
            break
    seen = Counter(name.casefold() for name in names.values())
    return {
        path: f"{name}_{path.suffix.lstrip('.')}" if seen[name.casefold()] > 1 else name for path, name in names.items()
    }


def _files(given: str, out: Path) -> list[Path]:
    path = Path(given)
    if path.is_file():
        return [path]
    if path.is_dir():
        return _outside(find_images(path, "source"), out)
    if glob.has_magic(given):
        matching = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        files = [file for file in matching if file.is_file() and not is_leftover(file.name)]
        if files:
            return _outside(files, out)
        raise UserError(f"no file matches source {given!r}; patterns are those of a shell, such as 'scenes/*.tif'")
    raise UserError(f"source {given!r} does not exist; give a file, a folder, or a pattern such as 'scenes/*.tif'")


def _outside(files: list[Path], out: Path) -> list[Path]:
    """The files that are no outputs, finished or not; all, if there are no others."""
    places = {file: file.resolve() for file in files}
    others = [file for file, at in places.items() if at.parent != out and not at.is_relative_to(out / FOLDER)]
    return others or files
