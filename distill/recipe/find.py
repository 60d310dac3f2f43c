"""Where a recipe is: in a file, among those that come with the package, or in a run folder."""

import os
from importlib.resources import files
from pathlib import Path

from distill.errors import UserError, did_you_mean
from distill.recipe.combinations import COMBINATIONS

RUN_RECIPE = "recipe.yaml"  # under which a run folder holds the recipe of its run
RUN_STUDENT = "student.safetensors"  # and the student that it trained


def shipped() -> dict[str, Path]:
    """Every installed recipe by its name, for example "finetune/mask_rcnn"."""
    root = Path(str(files("recipes")))
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}


def find(name: str) -> Path | str:
    """The file behind a path, a run folder or a shipped recipe's name; of a combination its name in `COMBINATIONS`.

    Names that come with the package may leave out `recipes/` and `.yaml`, and their folder where one recipe alone has
    such a name.

    Raises:
        UserError: There is no such recipe, or its file cannot be read or holds no text.
    """
    path = Path(name)
    try:
        for file in (path / RUN_RECIPE, path):
            if file.is_file():
                file.read_text(encoding="utf-8")
                return file
    except (OSError, UnicodeDecodeError) as error:  # the folder of somebody else, or weights, for example
        raise UserError(f"{name} cannot be read as a recipe ({error}); pass a YAML file or a run folder") from error
    if (named := _named(name)) is not None:  # also where there is a folder of that name, such as data/nwpu
        return named
    if path.is_dir():
        raise UserError(f"{name} is a folder without {RUN_RECIPE}; pass a run folder or a recipe file")
    nearest = did_you_mean(_key(name), [*shipped(), *COMBINATIONS])
    raise UserError(
        f"there is no file {name} and no shipped recipe of that name; {nearest}`distill recipes list` lists them all"
    )


def require_run(name: str) -> None:
    """Refuses what is neither a run folder nor a recipe that a run may have been fitted from.

    Raises:
        UserError: There is no such folder, file or recipe.
    """
    there = os.path.exists(name)  # noqa: PTH110  # `Path.exists` raises where one may not look
    if not there and not comes_with_the_package(name):
        raise UserError(f"run {name!r} does not exist; pass the folder that `distill fit` wrote")


def comes_with_the_package(name: str) -> bool:
    """Whether a recipe or a combination has this name."""
    return _named(name) is not None


def summary(path: Path) -> str:
    """First sentence of the comment that opens a recipe."""
    comment = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# ").strip())
    return " ".join(comment).split(". ")[0].rstrip(".")


def _named(name: str) -> Path | str | None:
    recipes: dict[str, Path | str] = {**shipped(), **{key: key for key in COMBINATIONS}}
    key = _key(name)
    matching = [key] if key in recipes else [full for full in recipes if full.rpartition("/")[2] == key]
    return recipes[matching[0]] if len(matching) == 1 else None


def _key(name: str) -> str:
    return name.removeprefix("./").removeprefix("recipes/").removesuffix(".yaml")
