"""checkpoints/best.ckpt, the training state with the best validation score."""

from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint

from distill.runs.folder import RunFolder


class BestCheckpoint(ModelCheckpoint):
    """Lightning's `ModelCheckpoint`, which also resumes in a folder that was moved.

    Lightning's own forgets the best score where the folder has another path, and the next validation would replace a
    better best.ckpt.

    Args:
        folder: The run folder.
        monitor: The metric that is compared.
        mode: "min" or "max".
        resumed: Whether the run in the folder goes on; else the best of another run has no say here.
    """

    def __init__(self, folder: RunFolder, monitor: str, mode: str, resumed: bool) -> None:
        super().__init__(folder.checkpoints, folder.best.stem, monitor=monitor, mode=mode, enable_version_counter=False)
        self._resumed = resumed

    @property
    def state_key(self) -> str:
        """Lightning's name of it, under which checkpoints hold its state."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best score, with paths that lead to where the folder is."""
        folder = str(self.dirpath)
        if self._resumed:
            state_dict = {
                **state_dict,
                **{key: _moved(state_dict[key], folder) for key in ("best_model_path", "kth_best_model_path")},
                "best_k_models": {_moved(key, folder): score for key, score in state_dict["best_k_models"].items()},
                "dirpath": folder,
            }
        super().load_state_dict(state_dict)


def _moved(path: str, folder: str) -> str:
    return str(Path(folder, Path(path).name)) if path else path
