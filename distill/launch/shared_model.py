"""A shared model, read as a run is: its recipe and its weights come from somebody else and run no code."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from distill.contracts import StudentBase
from distill.errors import UserError
from distill.launch.hub import HubModel
from distill.launch.stored_run import StoredRun
from distill.runs.folder import RunFolder
from distill.runs.model_folder import ModelFolder
from distill.tasks.supervised import SupervisedModule
from distill.weights import load_matching, read_state_dict


def open_run(run: str | PathLike[str]) -> StoredRun:
    """A run folder, or a shared model: a folder that holds model.safetensors, or an address on the Hub.

    Raises:
        UserError: There is none, or it cannot be read.
    """
    if (model := HubModel.of(run)) is not None:
        return SharedModel(ModelFolder(model.fetch(ModelFolder.NEEDED), str(model)))
    folder = ModelFolder(Path(run))
    return SharedModel(folder) if folder.is_one else StoredRun(folder.path)


class SharedModel(StoredRun):
    """A model that `distill push` wrote; of its recipe only what is checked is read.

    Args:
        folder: Its files.

    Raises:
        UserError: A file is missing or damaged, or the recipe names other classes than those of this project.
    """

    def __init__(self, folder: ModelFolder) -> None:
        folder.files()
        self.folder = RunFolder(folder.path)
        self._shared = folder
        self._class_names, self._facts = folder.read_config()
        self._read(folder.read_recipe())

    @property
    def name(self) -> str:
        """Its folder or address, as it was given."""
        return str(self._shared)

    @property
    def facts(self) -> dict[str, Any]:
        """The facts of its run's summary."""
        return self._facts

    def checkpoint(self, given: str | PathLike[str]) -> Path:
        """The weights, of which there is one set, called "last".

        Raises:
            UserError: Others are asked for.
        """
        if str(given) != "last":
            raise UserError(f"{self.name} is a shared model with one set of weights; leave out checkpoint, {given!r}")
        return self._shared.weights

    def _weights(self, path: Path) -> tuple[list[str], Mapping[str, Tensor]]:
        return self._class_names, read_state_dict(path)

    def student(self, checkpoint: str | PathLike[str] | None) -> StudentBase:
        """The backbone with its weights."""
        path = self.checkpoint(checkpoint or "last")
        state: Mapping[str, Tensor] = read_state_dict(path)
        if issubclass(self.task_class, SupervisedModule):
            state = {name.removeprefix("student."): x for name, x in state.items() if name.startswith("student.")}
        student = self.untrained_student()
        load_matching(student, state, path)
        return student
