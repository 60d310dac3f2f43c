"""Which annotation files a data set has, and where their images lie."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from distill.data.annotations import read_sections
from distill.data.checks import existing_folder
from distill.data.coco import CocoInstances
from distill.data.images import is_file, is_leftover
from distill.errors import UserError

# The first pattern that fits anything is the layout: this project's and COCO's, that of the synthetic scenes,
# Roboflow's, FiftyOne's, and files without a folder of their own.
_PATTERNS = ("annotations/**/*.json", "*/annotations.json", "*/_annotations.coco.json", "*/labels.json", "*.json")
_NAMED_BY_FOLDER = ("annotations", "_annotations.coco", "labels")
_IMAGE_FOLDERS = ("images", "imgs", "data", "JPEGImages", "positive image set")
_SAMPLE = 50  # file names that are looked for


@dataclass(frozen=True)
class Part:
    """One annotation file. It is read when its content is asked for, and once.

    Args:
        name: Below `annotations/` and without suffix, for example "val" or "official/test"; or the folder's name.
        group: Parts of one group are meant to share no image; parts of two are alternatives.
        annotations: The file.
        bases: Where its images, or the folder that holds them, may lie.
        given: The folder of the images as the user named it, searched instead.
    """

    name: str
    group: str
    annotations: Path
    bases: tuple[Path, ...]
    given: Path | None = None

    @cached_property
    def content(self) -> dict[str, Any]:
        """See `distill.data.annotations.read_sections`."""
        return read_sections(self.annotations)

    @cached_property
    def images(self) -> Path:
        """The folder that holds most of a sample of the file names; if none holds any, the first that could be it.

        Raises:
            UserError: As `content`; or there is no such folder.
        """
        names = [r["file_name"] for r in self.content["images"] if isinstance(r, dict) and _is_name(r.get("file_name"))]
        sample = names[:: max(len(names) // _SAMPLE, 1)]
        folders = dict.fromkeys(folder for folder in self._candidates() if folder.is_dir())
        found = {folder: sum(is_file(folder / name) for name in sample) for folder in folders}
        best = max(folders, key=lambda folder: found[folder], default=None)
        if best is not None and found[best]:
            return best
        for folder in [self.given] if self.given else [folder for folder in folders if folder not in self.bases]:
            return folder
        raise UserError(f"no folder images/ beside {str(self.annotations)!r}; name it with --images")

    def _candidates(self) -> Iterator[Path]:
        last = self.name.rpartition("/")[2]
        for base in [self.given] if self.given else self.bases:
            for folder in ("", *_IMAGE_FOLDERS):
                for part in ("", last, last.rpartition("instances_")[2]):  # instances_train2017.json: train2017/
                    yield base / folder / part


def find_parts(*roots: Path, images: Path | None = None) -> list[Part]:
    """The parts of a data set; their content is not looked at.

    Args:
        *roots: A folder with `annotations/**/*.json`, `<part>/annotations.json`, `<part>/_annotations.coco.json`,
            `<part>/labels.json` or `*.json`; or COCO files, which are the parts of one data set then.
        images: The folder of the images, where it is another one.

    Raises:
        UserError: There is no annotation file, or `images` is no folder.
    """
    if images is not None:
        existing_folder("--images", str(images))
    if all(map(is_file, roots)):
        names = [_name(path) for path in roots]
        return [
            Part(name if names.count(name) == 1 else str(path), "", path, _bases(path), images)
            for name, path in zip(names, roots, strict=True)
        ]
    root = next(root for root in roots if not is_file(root))
    if not root.is_dir():
        raise UserError(f"{str(root)!r} does not exist; give a data set's folder or a COCO file")
    for pattern in _PATTERNS:
        paths = [path for path in sorted(root.glob(pattern)) if not _is_hidden(path.relative_to(root))]
        if paths:
            return [_part(path, root, images) for path in paths]
    raise UserError(
        f"{str(root)!r} holds neither annotations/*.json nor */annotations.json, */_annotations.coco.json, "
        "*/labels.json or *.json; "
        "give a folder of that layout, or a COCO file and --images"
    )


def parts_of(module: CocoInstances) -> list[Part]:
    """The annotation files of a data module for instances; splits of one file are one part."""
    splits: dict[tuple[str, str], list[str]] = {}
    for split, source in module.sources.items():
        splits.setdefault(source, []).append(split)
    return [
        Part(", ".join(names), ".", Path(annotations), (), Path(images))
        for (images, annotations), names in splits.items()
    ]


def _part(path: Path, root: Path, images: Path | None) -> Part:
    below = path.parent.relative_to(root)
    group = below.relative_to("annotations").as_posix() if below.parts[:1] == ("annotations",) else "."
    name = _name(path) if group == "." else f"{group}/{_name(path)}"
    return Part(name, group, path, (path.parent, root), images)


def _name(path: Path) -> str:
    return path.resolve().parent.name if path.stem in _NAMED_BY_FOLDER else path.stem


def _bases(path: Path) -> tuple[Path, ...]:
    """Where the images of a file that was given alone may lie: beside it, above it, and above its `annotations/`."""
    above = next((p.parent for p in path.parents if p.name == "annotations"), path.parent)
    return path.parent, path.parent.parent, above


def _is_hidden(path: Path) -> bool:
    return any(map(is_leftover, path.parts))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)
