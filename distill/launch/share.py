"""`distill.push` and `distill.pull`: a trained run is shared as a folder or on the Hugging Face Hub, and taken again.

What is shared is what `distill.load` needs, a model card, and exported files where they are named. See docs/sharing.md.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.exporters.weights_file import require_shareable, write_model
from distill.launch.hub import HubModel
from distill.launch.origins import teacher_licences
from distill.launch.shared_model import SharedModel
from distill.launch.stored_run import StoredRun
from distill.report.model_card import model_card
from distill.runs.model_folder import EXPORTED, ModelFolder, is_exported, write_folder
from distill.tasks.supervised import SupervisedModule
from distill.weights import read_metadata

Place = str | PathLike[str]
_EXPORTED = tuple(f"*{suffix}" for suffix in EXPORTED)  # patterns of their names on the Hub


@dataclass(frozen=True)
class Shared:
    """The result of a push or a pull.

    Attributes:
        place: What `distill.load` takes.
        files: Names of the files.
        address: Of the commit on the Hub; None for a folder.
    """

    place: str
    files: tuple[str, ...]
    address: str | None = None


def push(
    run: Place,
    to: Place,
    *,
    checkpoint: Place | None = None,
    exported: Sequence[Place] = (),
    licence: str | None = None,
    public: bool = False,
) -> Shared:
    """Shares a run: its weights, its recipe without places of this machine, its facts and a model card.

    Args:
        run: A run folder.
        to: A folder, or "hf://owner/name" or "hf://owner/name@branch" on the Hugging Face Hub. A shared model that is
            there is replaced.
        checkpoint: See `distill.load`.
        exported: Files of `distill export` to put beside the weights; an .xml brings its .bin.
        licence: Of the weights, as the Hub names it, for example "apache-2.0"; the card says if there is none.
        public: Whether everybody sees a repository that is made; one that is there stays as it is.

    Returns:
        What was written, and where.

    Raises:
        UserError: There is no such run or file, the run is built of classes that are not of this project, or the place
            cannot be written; it is left as it was.
    """
    stored = StoredRun(Path(run))
    require_shareable(stored.folder)
    files = _exported_files(exported)
    hub = HubModel.of(to)
    supervised = issubclass(stored.task_class, SupervisedModule)
    network: Any = stored.trained(checkpoint) if supervised else stored.student(checkpoint)
    class_names: list[str] = network.class_names if supervised else []
    metadata: dict[str, object] = {"format": "pt"}
    if not supervised:
        metadata |= {"class": network.class_path, "init_args": dict(network.init_args)}
        if checkpoint is None and stored.folder.student.is_file():
            metadata |= read_metadata(stored.folder.student)
    address = str(hub or Path(to).name)
    names = [file.name for file in files]
    licences = teacher_licences(stored.folder)
    card = model_card(stored.folder, stored.task_class.name, class_names, licences, address, licence, names)

    def write(model: ModelFolder) -> None:
        write_model(model, stored.folder, network, class_names, card, metadata)
        for file in files:
            shutil.copyfile(file, model.path / file.name)

    if hub is None:
        write_folder(Path(to), write)
        return Shared(str(to), _names(ModelFolder(Path(to))))
    with tempfile.TemporaryDirectory() as folder:
        model = ModelFolder(Path(folder))
        write(model)
        return Shared(str(hub), _names(model), hub.send(model.path, public, _EXPORTED))


def pull(source: Place, folder: Place) -> Shared:
    """Copies a shared model into a folder, whole or not at all.

    Args:
        source: "hf://owner/name", "hf://owner/name@revision", or the folder of a shared model.
        folder: A new folder, or one of a shared model, which is replaced.

    Returns:
        What was written.

    Raises:
        UserError: There is no such model, it cannot be fetched, its recipe names classes that are not of this project,
            or the folder cannot be written; it is left as it was.
    """
    hub = HubModel.of(source)
    if hub is None:
        found = ModelFolder(Path(source))
    else:
        found = ModelFolder(hub.fetch([*ModelFolder.OWN, *_EXPORTED]), str(hub))
    files = found.files()
    SharedModel(found)  # refuses what could not be loaded

    def write(model: ModelFolder) -> None:
        for file in files:
            shutil.copyfile(file, model.path / file.name)

    write_folder(Path(folder), write)
    return Shared(str(folder), tuple(file.name for file in files))


def _exported_files(given: Sequence[Place]) -> list[Path]:
    files: dict[str, Path] = {}
    for path in map(Path, given):
        if not path.is_file():
            raise UserError(f"there is no file {path}; give files of `distill export`")
        if not is_exported(path):
            raise UserError(
                f"{path} is no exported file that can be shared: give an .onnx, or an .xml with its .bin; loading a "
                ".pt2 can run code, so who needs one exports it from the shared model"
            )
        parts = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
        files |= {part.name: part for part in parts}
    for path in files.values():
        if not path.is_file():
            raise UserError(f"there is no file {path}, which holds the weights of its .xml; export it again")
    return list(files.values())


def _names(model: ModelFolder) -> tuple[str, ...]:
    return tuple(file.name for file in model.files())
