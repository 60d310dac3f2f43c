"""The folder of a shared model: what `distill push` writes, here or to the Hugging Face Hub, and what is read of it.

Files in it come from anywhere. Weights are read as safetensors alone, the recipe by `distill.recipe.untrusted`.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from distill.errors import UserError
from distill.files import read_json
from distill.recipe.compose import read_raw
from distill.recipe.find import RUN_RECIPE
from distill.recipe.untrusted import checked

# Of exported files that may lie beside the weights. A .pt2 may not: PyTorch unpickles parts of it, which can run code.
EXPORTED = (".onnx", ".xml", ".bin")

_SIZES = ("image_side", "largest_side", "object_side", "gsd")  # the facts that tiles are cut by


@dataclass(frozen=True)
class ModelFolder:
    """A shared model, by the names of its files.

    Args:
        path: The folder, which need not exist yet.
        source: How errors call it; by default the path.
    """

    path: Path
    source: str = ""

    WEIGHTS: ClassVar = "model.safetensors"
    CONFIG: ClassVar = "config.json"
    CARD: ClassVar = "README.md"  # which the Hub shows
    NEEDED: ClassVar = (WEIGHTS, CONFIG, RUN_RECIPE)  # by `distill.load`
    OWN: ClassVar = (*NEEDED, CARD)

    def __str__(self) -> str:
        return self.source or str(self.path)

    @property
    def weights(self) -> Path:
        """All weights that prediction needs; of a distillation those of the student."""
        return self.path / self.WEIGHTS

    @property
    def config(self) -> Path:
        """Class names, and what the run's summary knows of its parts, its costs and its images."""
        return self.path / self.CONFIG

    @property
    def recipe(self) -> Path:
        """The resolved recipe without places of the machine that it ran on."""
        return self.path / RUN_RECIPE

    @property
    def card(self) -> Path:
        """The model card."""
        return self.path / self.CARD

    @property
    def is_one(self) -> bool:
        """Whether the folder holds a shared model."""
        return self.weights.is_file()

    def files(self) -> list[Path]:
        """The files of the model: its own, then exported ones.

        Raises:
            UserError: One of its own is missing.
        """
        for name in self.NEEDED:
            if not (self.path / name).is_file():
                raise UserError(f"{self} is no model that `distill push` wrote: it has no {name}")
        own = [self.path / name for name in self.OWN if (self.path / name).is_file()]
        exported = sorted(path for path in self.path.iterdir() if is_exported(path) and path.is_file())
        return own + exported

    def read_recipe(self) -> dict[str, Any]:
        """Reads the parts of the recipe that loading needs.

        Raises:
            UserError: See `distill.recipe.untrusted.checked`.
        """
        return checked(read_raw(self.recipe), f"the recipe of {self}")

    def read_config(self) -> tuple[list[str], dict[str, Any]]:
        """Class names in label order, none of a student; and facts, as in the summary of a run.

        Raises:
            UserError: The file is damaged.
        """
        content = read_json(self.config)
        names, facts = content.get("class_names"), content.get("facts")
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names) and isinstance(facts, dict)):
            raise UserError(f"{self.CONFIG} of {self} has no class names or no facts; ask for the model again")
        for key in _SIZES:
            if not isinstance(facts.get(key), int | float | None):
                raise UserError(f"{self.CONFIG} of {self} has {key} {facts[key]!r}, no number; ask for the model again")
        return names, facts


def is_exported(path: Path) -> bool:
    """Whether a name is that of an exported file; a `.bin` alone, which may be a pickle, is none."""
    return path.suffix in EXPORTED and (path.suffix != ".bin" or path.with_suffix(".xml").is_file())


def write_folder(folder: Path, write: Callable[[ModelFolder], object]) -> None:
    """Writes a shared model beside its place, then puts it there in one step, in place of an earlier one.

    Args:
        folder: The place; its parents are made.
        write: Writes the files into the folder that it is given.

    Raises:
        UserError: The place holds anything but a shared model, or cannot be written. It is left as it was.
    """
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if others := [name for name in there if name not in ModelFolder.OWN and Path(name).suffix not in EXPORTED]:
        raise UserError(f"{folder} holds other files, such as {others[0]}; name an empty folder or a new one")
    if folder.is_file():
        raise UserError(f"{folder} is a file; name a folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            new = made / "new"
            new.mkdir()
            write(ModelFolder(new))
            if there:
                _exchange(folder, new, made / "old")
            else:
                new.replace(folder)  # also an empty one
        finally:
            shutil.rmtree(made)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror or error}); name another place") from error


def _exchange(folder: Path, new: Path, old: Path) -> None:
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise
