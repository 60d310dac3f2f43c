"""Reads a run folder for loading: the recipe, its components, and the checkpoints."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentError, ArgumentParser
from torch import Tensor, nn

from distill.contracts import StudentBase, TeacherBase
from distill.errors import UserError
from distill.launch.checkpoints import checkpoint_file
from distill.launch.initial_weights import without_initial_weights
from distill.plain_student import as_student
from distill.recipe.errors import hidden_user_error
from distill.runs.folder import RunFolder
from distill.weights import load_matching, read_state_dict, read_training_checkpoint


class StoredRun:
    """A run folder, read without the data set, the teacher and files of initial weights.

    Attributes:
        recipe: The recipe of the run with every default filled in.
        task_class: The class of its task.

    Args:
        folder: The run folder.

    Raises:
        UserError: It is no run folder, or the class of its task is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = RunFolder(folder)
        recipe = self.folder.recipe
        if not recipe.is_file():
            seen = f"is no run folder: it has no {recipe.name}" if folder.is_dir() else "does not exist"
            name = self.folder.student.name
            raise UserError(f"run {str(folder)!r} {seen}; pass the folder that `distill fit` wrote, or a {name}")
        if seeds := sorted(path.parent.name for path in folder.glob(f"seed*/{recipe.name}")):
            raise UserError(f"{folder} holds the runs of several seeds; load one, for example {folder / seeds[0]}")
        self._read(self.folder.read_recipe())

    def _read(self, recipe: dict[str, Any]) -> None:
        self.recipe = recipe
        self._model = self._component(recipe, "model")
        try:
            self.task_class: Any = resolve_name(self._model["class_path"])
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(f"model of {self.folder.recipe}: {error}; put its package on PYTHONPATH") from error

    @property
    def name(self) -> str:
        """The name of the folder, as it was given."""
        return str(self.folder)

    @property
    def facts(self) -> dict[str, Any]:
        """The content of its summary; empty until the run is finished."""
        return self.folder.read_summary()[0] if self.folder.summary.is_file() else {}

    @property
    def data(self) -> dict[str, Any]:
        """Arguments of the data module."""
        return self._component(self.recipe, "data").get("init_args") or {}

    @property
    def image_size(self) -> int:
        """Side of the views, in pixels.

        Raises:
            UserError: The recipe does not say it: the data module is one of the user's that fixes it.
        """
        if "image_size" not in self.data:
            raise UserError(f"{self.folder.recipe} has no data.image_size; add the side of the views to it")
        return int(self.data["image_size"])

    @property
    def precision(self) -> Any:
        """`trainer.precision`; None if the recipe leaves it to the trainer."""
        return (self.recipe.get("trainer") or {}).get("precision")

    def checkpoint(self, given: str | PathLike[str]) -> Path:
        """The file that "best", "last" or a path names.

        Raises:
            UserError: There is no such file.
        """
        path = checkpoint_file(self.folder, given)
        if not path.is_file():
            there = ", ".join(sorted(file.stem for file in self.folder.checkpoints.glob("[!.]*.ckpt")))
            way_out = f"there are {there}" if there else "the run has written none: run `distill fit` again"
            raise UserError(f"there is no checkpoint {path}; {way_out}")
        return path

    def task(self) -> Any:
        """The task with random weights, without what only training needs.

        Raises:
            UserError: The recipe does not fit the classes that are installed.
        """
        return self._built("model", pl.LightningModule, self._model, self.task_class.training_only)

    def trained(self, checkpoint: str | PathLike[str] | None) -> Any:
        """The task with its head for the classes of the training, and the weights of a checkpoint, by default "last".

        Raises:
            UserError: There is no such file, or it does not fit; see `task`.
        """
        path = self.checkpoint(checkpoint or "last")
        class_names, state = self._weights(path)
        task = self.task()
        task.build(class_names)
        load_matching(task, state, path)
        return task

    def _weights(self, path: Path) -> tuple[list[str], Mapping[str, Tensor]]:
        """Class names, and weights by name."""
        content = read_training_checkpoint(path)
        if "class_names" not in content:
            raise UserError(f"checkpoint {str(path)!r} is not one of a fine-tuning run; pass one of the run's own")
        return content["class_names"], content["state_dict"]

    def student(self, checkpoint: str | PathLike[str] | None) -> StudentBase:
        """The backbone with its weights, from a training checkpoint; by default from the exported file if there is one.

        Raises:
            UserError: There is no such file, or it does not fit; see `task`.
        """
        student = self.untrained_student()
        exported = self.folder.student
        if checkpoint is None and exported.is_file():
            load_matching(student, read_state_dict(exported), exported)
            return student
        path = self.checkpoint(checkpoint or "last")
        state = read_training_checkpoint(path)["state_dict"]
        own = {name.removeprefix("student."): value for name, value in state.items() if name.startswith("student.")}
        load_matching(student, own, path)
        return student

    def untrained_student(self) -> StudentBase:
        """The backbone with random weights.

        Raises:
            UserError: It does not fit the classes that are installed.
        """
        return as_student(self._built("student", nn.Module, self._part("student")))

    def teacher(self, weights: Path | None) -> TeacherBase:
        """The teacher of a distillation, without a network.

        Args:
            weights: The file of its weights; where the recipe names none, they are random.

        Raises:
            UserError: There is no such file, or the teacher takes its weights from elsewhere.
        """
        given = self._part("teacher")
        arguments = dict(given.get("init_args") or {})
        if weights is not None:
            if not weights.is_file():
                raise UserError(f"there is no {weights}, which {self.folder.recipe} names as model.teacher.checkpoint")
            arguments["checkpoint"] = str(weights)
        elif "pretrained" in arguments:
            arguments["pretrained"] = False
        else:
            raise UserError(
                f"{self.folder.recipe} names no file as model.teacher.checkpoint, and nothing is downloaded"
            )
        return self._built("teacher", TeacherBase, given | {"init_args": arguments}, weights=True)

    def _part(self, key: str) -> dict[str, Any]:
        return self._component(self._model.get("init_args") or {}, key)

    def _component(self, tree: Mapping[str, Any], key: str) -> dict[str, Any]:
        found = tree.get(key)
        if not isinstance(found, dict) or "class_path" not in found:
            raise UserError(f"{self.folder.recipe} has no {key} with a class_path; use it as `distill fit` wrote it")
        return found

    def _built(
        self, key: str, base: type, given: Mapping[str, Any], unneeded: tuple[str, ...] = (), weights: bool = False
    ) -> Any:
        """A component as the parser of recipes builds it, but for the arguments `unneeded` and files of `weights`."""
        parser = ArgumentParser(exit_on_error=False)
        parser.add_subclass_arguments(base, key)
        try:
            parsed = parser.parse_object({key: given})
            if not weights:
                parsed[key] = without_initial_weights(parsed[key])
            for name in unneeded:
                parsed[key].init_args[name] = None
            return parser.instantiate_classes(parsed)[key]
        except (ArgumentError, ValueError) as error:
            reason = " ".join(str(hidden_user_error(error) or error).split())
            raise UserError(f"{key} of {self.folder.recipe} cannot be built: {reason}") from error
