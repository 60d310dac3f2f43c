"""Pictures in a run folder, as they are written and read; without PyTorch.

`fit_pictures/<step>/`, `validate_pictures/` and `test_pictures/` hold the files and an index.json. All runs on a data
set show the same images, so that their pictures can be put side by side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from distill.files import read_json, write_json
from distill.runs.folder import STAGES, RunFolder

# What an image is shown as: of a distillation ("corrupted" where something is), and of a model with a head.
FEATURES = ("input", "corrupted", "teacher", "student", "error")
PREDICTIONS = ("input", "truth", "prediction")
_INDEX = "index.json"


@dataclass(frozen=True)
class Picture:
    """One image.

    Attributes:
        name: Of the image, relative to its data set.
        parts: The files that show it, by `FEATURES` or `PREDICTIONS`.
        captions: What is said below a part.
    """

    name: str
    parts: dict[str, Path]
    captions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PictureSet:
    """The pictures of one validation or test.

    Attributes:
        stage: "fit", "validate" or "test".
        step: Optimizer step of the weights.
        pictures: In the order of the data set.
        legend: Colours of the classes that are shown, as "#rrggbb", by name.
    """

    stage: str
    step: int
    pictures: list[Picture]
    legend: dict[str, str] = field(default_factory=dict)


def write_index(
    place: Path, step: int, pictures: Sequence[Picture], legend: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Writes index.json beside the files of the pictures."""
    images = [
        {"name": one.name, "parts": {part: path.name for part, path in one.parts.items()}, "captions": one.captions}
        for one in pictures
    ]
    write_json(place / _INDEX, {"step": step, "legend": dict(legend), "images": images})


def read_pictures(folder: RunFolder) -> list[PictureSet]:
    """All pictures of a run: those of the fit by step, then those of validation and test."""
    steps = [path for path in folder.pictures("fit").glob(f"*/{_INDEX}") if path.parent.name.isdigit()]  # no copies
    fitted = [("fit", path) for path in sorted(steps, key=lambda path: int(path.parent.name))]
    scored = [(stage, folder.pictures(stage) / _INDEX) for stage in STAGES]
    return [_read(stage, path) for stage, path in [*fitted, *scored] if path.is_file()]


def pictures_of(folder: RunFolder, stage: str) -> PictureSet | None:
    """The pictures of "validate" or "test", if there are any."""
    return next((found for found in read_pictures(folder) if found.stage == stage), None)


def _read(stage: str, index: Path) -> PictureSet:
    content = read_json(index)
    pictures = [
        Picture(one["name"], {part: index.parent / file for part, file in one["parts"].items()}, one["captions"])
        for one in content["images"]
    ]
    return PictureSet(stage, content["step"], pictures, content.get("legend", {}))
