"""metrics.csv: what a run logs, row by row."""

import csv
import io
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from distill.errors import UserError
from distill.files import write_text
from distill.runs.folder import RunFolder


class MetricsFile(Logger):
    """Writes metrics.csv, which a resumed run continues.

    Each row is on its way to the disk when it is logged, and the file as a whole only changes in one step, where new
    columns come or a run goes on. So a process killed at any time loses no row that was logged before.

    Args:
        folder: The run folder.
        keep_until: Step from which an interrupted run resumes; rows before it are kept. -1 keeps none.
    """

    def __init__(self, folder: RunFolder, keep_until: int = -1) -> None:
        super().__init__()
        self._path = folder.metrics
        self._columns: list[str] = []
        kept = [row for row in self._read() if row["step"].isdigit() and int(row["step"]) < keep_until]
        if rank_zero_only.rank == 0 and (kept or self._path.exists()):  # type: ignore[attr-defined]
            self._replace(kept)

    @property
    def name(self) -> str:
        """Empty: the file lies in the run folder itself."""
        return ""

    @property
    def version(self) -> str:
        """Empty, too."""
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """No-op: hyperparameters are in recipe.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Writes a row.

        Raises:
            UserError: The disk is full, or gone.
        """
        row = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}
        row["step"] = 0 if step is None else step
        if not row.keys() <= set(self._columns):
            self._replace([*self._read(), row])
            return
        try:
            with self._path.open("a", encoding="utf-8", newline="") as file:
                file.write(_text(self._columns, [row]))
        except OSError as error:
            raise UserError(
                f"{self._path} cannot be written ({error.strerror}); free space or permit writing there, then go on "
                "with --ckpt_path last"
            ) from error

    def _read(self) -> list[dict[str, str]]:
        """The rows that are there, without a last one that a killed process left in parts."""
        if not self._path.is_file():
            return []
        whole, _, _ = self._path.read_text(encoding="utf-8").rpartition("\n")
        return [
            {name: value for name, value in row.items() if value not in ("", None)}
            for row in csv.DictReader(io.StringIO(whole))
            if row.get("step")
        ]

    def _replace(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._columns = sorted({name for row in rows for name in row})
        write_text(self._path, _text(self._columns, rows, header=True))


def _text(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], header: bool = False) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
