"""Builds only the data module of a recipe."""

from pathlib import Path

from pytorch_lightning import LightningDataModule

from distill.data.base import ImageData
from distill.data.coco import CocoInstances
from distill.data.semantic import SemanticImages
from distill.errors import UserError
from distill.recipe.compose import compose
from distill.recipe.find import RUN_RECIPE, comes_with_the_package
from distill.runs.moved import moved_paths, set_part


def is_recipe(name: str) -> bool:
    """Whether a name is that of a recipe file, a run folder or a shipped recipe."""
    path = Path(name)
    if path.is_dir():  # a data set may lie where a recipe has its name, such as data/nwpu
        return (path / RUN_RECIPE).is_file()
    return path.suffix in (".yaml", ".yml") or comes_with_the_package(name)


def labelled_data(recipe: str, root: Path | None) -> CocoInstances | SemanticImages:
    """Builds the data module of a recipe; see `data_module`.

    Raises:
        UserError: See `data_module`; or the data has no labels.
    """
    module = data_module(recipe, root)
    if not isinstance(module, CocoInstances | SemanticImages):
        raise UserError(f"the data of {recipe} has no labels to look at ({type(module).__name__})")
    return module


def data_module(recipe: str, root: Path | None = None) -> ImageData:
    """Builds the data module of a recipe. Paths of a run are found from other folders than the one it was started in.

    Args:
        recipe: A file, a run folder or a shipped recipe's name.
        root: The data set's folder, in place of the one that the recipe names.

    Raises:
        UserError: There is no such recipe, it has no usable `data`, or the data module refuses its arguments.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    found = compose([recipe])
    path, content = found.path, found.content
    if not isinstance(content.get("data"), dict):
        raise UserError(f"{path} has no `data` with a class_path; name a recipe, a data set's folder or a COCO file")
    for one in moved_paths(path):
        if one.key.startswith("data."):
            set_part(content, one.key, str(one.path))
    given = content["data"]
    if root is not None:
        given = given | {"init_args": (given.get("init_args") or {}) | {"root": str(root)}}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data")
    try:
        parsed = parser.parse_object({"data": given})
    except ArgumentError as error:
        raise UserError(f"`data` of {path} cannot be used: {' '.join(str(error).split())}") from error
    module: LightningDataModule = parser.instantiate_classes(parsed).data
    if not isinstance(module, ImageData):
        raise UserError(f"the data of {recipe} is {type(module).__name__}, which is no data module of this project")
    return module
