"""How a recipe is found: by its path, by the name of one that comes with the package, or by a run folder."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from distill.errors import UserError, did_you_mean

RUN_RECIPE = "recipe.yaml"  # under which a run folder holds the recipe of its run
RUN_STUDENT = "student.safetensors"  # and the student that it trained


def shipped() -> dict[str, Path]:
    """Every installed recipe by its name, for example "finetune/nwpu_mask_rcnn"."""
    root = Path(str(files("recipes")))
    return {str(path.relative_to(root).with_suffix("")): path for path in sorted(root.rglob("*.yaml"))}


def find(name: str) -> Path:
    """The recipe file behind a path, a shipped recipe's name, or a run folder.

    Raises:
        UserError: There is no such recipe, or its file holds no text.
    """
    path = Path(name)
    if path.is_dir():
        if not (path / RUN_RECIPE).is_file():
            raise UserError(f"{name} is a folder without {RUN_RECIPE}; pass a run folder or a recipe file")
        return path / RUN_RECIPE
    if path.is_file():
        try:
            path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:  # weights, for example
            raise UserError(f"{name} cannot be read as a recipe ({error}); pass a YAML file or a run folder") from error
        return path
    recipes = shipped()
    key = name.removeprefix("./").removeprefix("recipes/").removesuffix(".yaml")
    if key not in recipes:
        nearest = did_you_mean(key, list(recipes))
        raise UserError(
            f"there is no file {name} and no shipped recipe of that name; {nearest}`distill recipes` lists them all"
        )
    return recipes[key]


def split(words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The recipe that the words behind a verb name, first or as `--config`, and the other words.

    Raises:
        UserError: There is no such recipe.
    """
    if words and not words[0].startswith("-"):
        return find(words[0]), list(words[1:])
    for position, word in enumerate(words):
        key, _, value = word.partition("=")
        if key == "--config" and (value or position + 1 < len(words)):
            behind = position + (1 if value else 2)
            return find(value or words[position + 1]), [*words[:position], *words[behind:]]
    return None, list(words)


def summary(path: Path) -> str:
    """First sentence of the comment that opens a recipe."""
    comment = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# ").strip())
    return " ".join(comment).split(". ")[0].rstrip(".")
