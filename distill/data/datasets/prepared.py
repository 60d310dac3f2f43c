"""Prepared data sets: where their parts lie, and the data module of those without one of their own."""

from pathlib import Path
from typing import Any

from distill.data.coco import CocoInstances
from distill.errors import UserError


class PreparedInstances(CocoInstances):
    """A data set of `distill data prepare` or `distill data tile`, or any in the same layout.

    Trains on `annotations/train.json`, or `annotations/all.json` where there is none. Validates on `val.json` and
    tests on `test.json` where they are there; what is missing, `CocoInstances` makes up for.

    Args:
        root: The folder that holds `images/` and `annotations/`.
        **kwargs: Everything that `CocoInstances` takes, except the paths.

    Raises:
        UserError: `root` lacks the images or both training files; and all cases of `CocoInstances`.
    """

    def __init__(self, root: str, **kwargs: Any) -> None:
        images, annotations = str(Path(root) / "images"), Path(root) / "annotations"
        found = {name: annotations / f"{name}.json" for name in ("train", "all", "val", "test")}
        paths = {name: str(path) for name, path in found.items() if path.is_file()}
        train = paths.get("train", paths.get("all"))
        if train is None or not Path(images).is_dir():
            raise UserError(
                f"data.root {root!r} lacks images/, or annotations/train.json or all.json; write them with "
                "`distill data prepare` or `distill data tile`, or name the files of another layout with "
                "distill.data.CocoInstances"
            )
        super().__init__(
            train_images=images,
            train_annotations=train,
            val_images=images if "val" in paths else None,
            val_annotations=paths.get("val"),
            test_images=images if "test" in paths else None,
            test_annotations=paths.get("test"),
            **kwargs,
        )


def prepared_files(name: str, root: str, *splits: str) -> list[str]:
    """The folder of the images, then the annotation file of each split.

    Args:
        name: The data set, as `distill data prepare` calls it.
        root: The prepared folder.
        *splits: Annotation files below `annotations/`, without suffix.

    Raises:
        UserError: A part is missing.
    """
    parts = ["images", *(f"annotations/{split}.json" for split in splits)]
    missing = [part for part in parts if not (Path(root) / part).exists()]
    if missing:
        raise UserError(
            f"data.root {root!r} lacks {', '.join(missing)}; {name.upper()} needs {', '.join(parts)}. Write them with: "
            f"distill data prepare {name} --source UNPACKED --target {root}"
        )
    return [str(Path(root) / part) for part in parts]
