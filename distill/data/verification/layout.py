"""Which annotation files a data set has, and where their images lie."""

from dataclasses import dataclass
from pathlib import Path

from distill.data.annotations import read_json
from distill.data.images import is_file
from distill.errors import UserError

_IMAGE_FOLDERS = ("images", "imgs", "JPEGImages", "positive image set")


@dataclass(frozen=True)
class Part:
    """One annotation file.

    Args:
        name: Below `annotations/` and without suffix, for example "val" or "official/test".
        group: Parts of one group are meant to share no image; parts of two are alternatives.
        annotations: The file.
        images: The folder that its file names are relative to.
    """

    name: str
    group: str
    annotations: Path
    images: Path


def find_parts(root: Path, images: Path | None = None) -> list[Part]:
    """The parts of a data set.

    Args:
        root: A folder with `annotations/**/*.json` and `images/` or with `<split>/annotations.json` and
            `<split>/images/`, or a single COCO file.
        images: The folder of the images, where it is another one.

    Raises:
        UserError: There is no annotation file or no folder of images.
    """
    if is_file(root):
        found = [(root.stem, "", root, [root.parent, root.parent.parent])]
    elif not root.is_dir():
        raise UserError(f"{str(root)!r} does not exist; give a data set's folder or a COCO file")
    else:
        folder = root / "annotations"
        found = []
        for path in sorted(folder.rglob("*.json")):
            name = path.relative_to(folder).with_suffix("").as_posix()
            found.append((name, path.parent.relative_to(folder).as_posix(), path, [root]))
        for path in [] if found else sorted(root.glob("*/annotations.json")):
            found.append((path.parent.name, "", path, [path.parent]))
    if not found:
        raise UserError(
            f"{str(root)!r} holds neither annotations/*.json nor */annotations.json; give a folder of that layout, or "
            "a COCO file and --images"
        )
    return [Part(name, group, path, images or _images(path, name, bases)) for name, group, path, bases in found]


def _images(annotations: Path, name: str, bases: list[Path]) -> Path:
    """The folder in which the file's first image lies; else the first that could be it."""
    below = ("", name.rpartition("/")[2])
    folders = [base / folder / part for base in bases for folder in _IMAGE_FOLDERS for part in below]
    folders = [folder for folder in folders if folder.is_dir()]
    content = read_json(annotations)
    records = content.get("images") if isinstance(content, dict) else None
    first = next((r["file_name"] for r in records or [] if isinstance(r, dict) and _is_name(r.get("file_name"))), None)
    for folder in folders:
        if first is not None and is_file(folder / first):
            return folder
    if not folders:
        raise UserError(f"no folder images/ beside {str(annotations)!r}; name it with --images")
    return folders[0]


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)
