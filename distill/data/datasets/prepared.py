"""Where the parts of a prepared data set lie."""

from pathlib import Path

from distill.errors import UserError


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
            f"root {root!r} lacks {', '.join(missing)}; {name.upper()} needs {', '.join(parts)}. Write them with: "
            f"distill data prepare {name} --source UNPACKED --target {root}"
        )
    return [str(Path(root) / part) for part in parts]
