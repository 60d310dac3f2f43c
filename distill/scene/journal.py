"""Records on the disk which rows of a scene are done, so that an interrupted prediction resumes.

In the output folder, `.predict/` holds for each scene

- `NAME.partial/` while it is predicted: `header.json` with what shapes the result, and for each finished row of tiles
  its data and, written after that, its facts;
- `NAME.json` once it is finished: its header and its summary. It is written after the outputs have got their names.

All of it is written in single steps, so that a kill at any moment loses one row at most.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.files import read_json, write_json
from distill.locks import locked

FOLDER = ".predict"
_FINISHING = 1 << 30  # of the lock; rows are before it

Header = Mapping[str, Any]


class Journal:
    """The record of one scene.

    Args:
        out: The output folder.
        name: Of the scene's outputs.
        header: What shapes the result, as JSON has it: the same header gives the same bytes.
        rows: How many rows of tiles there are.
    """

    def __init__(self, out: Path, name: str, header: Header, rows: int) -> None:
        self.out = out
        self.name = name
        self.header = header
        self.rows = rows
        self.folder = out / FOLDER / f"{name}.partial"
        self.finished = out / FOLDER / f"{name}.json"
        self._lock = out / FOLDER / f"{name}.lock"
        self._begin_lock = out / FOLDER / f"{name}.begin.lock"

    def data(self, row: int) -> Path:
        """The file with what was found in a row."""
        return self.folder / f"row{row:05d}.data"

    def facts(self, row: int) -> Path:
        """The file that says that a row is done."""
        return self.folder / f"row{row:05d}.json"

    def missing(self) -> list[int]:
        """The rows that are not done."""
        return [row for row in range(self.rows) if not self.facts(row).is_file()]

    def complete(self, row: int, facts: Mapping[str, Any]) -> None:
        """Marks a row, whose data is written, as done."""
        write_json(self.facts(row), dict(facts))

    def result(self, outputs: Sequence[Path], overwrite: bool) -> dict[str, Any] | None:
        """The summary of the scene if it is finished and its outputs are there.

        Args:
            outputs: The files that a finished scene has.
            overwrite: Whether a scene of other settings may be predicted again.

        Raises:
            UserError: It was finished with other settings.
        """
        if not self.finished.is_file():
            return None
        content = read_json(self.finished)
        if (key := first_difference(content.get("header", {}), self.header)) is not None:
            if overwrite:
                return None
            raise UserError(self._refusal(f"{self.out / self.name} was predicted", key, content.get("header", {})))
        if not all(path.exists() for path in outputs):
            return None
        before = self._begun()
        if before is None or first_difference(before, self.header) is None:
            self._clear()  # what a process left that was killed in its last moment
        summary: dict[str, Any] = content["summary"]
        return summary

    def begin(self, outputs: Sequence[Path], overwrite: bool) -> None:
        """Makes the folder of the rows, or takes over the one that an interrupted process left.

        Args:
            outputs: The files that the scene will have.
            overwrite: Whether rows of other settings, and outputs that nothing is known of, may be replaced.

        Raises:
            UserError: The interrupted process had other settings, or an output is there that was not written by this
                program.
        """
        # Of processes that begin at once, one removes and writes; the others find its header.
        with locked(self._begin_lock, 0, 1, wait=True):
            before = self._begun()
            key = None if before is None else first_difference(before, self.header)
            if before is not None and key is None:
                return
            if before is not None and key is not None and not overwrite:
                raise UserError(self._refusal(f"an interrupted {self.out / self.name} began", key, before))
            there = [path for path in outputs if path.exists()]
            if before is None and there and not overwrite and not self.finished.is_file():
                raise UserError(
                    f"{there[0]} is there already and no prediction of this folder wrote it; give another --out, or "
                    "--overwrite to replace it"
                )
            if self.folder.exists():  # without a header, too: it may have been killed while it removed rows
                shutil.rmtree(self.folder)
            write_json(self._header_file, dict(self.header))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Marks the scene, whose outputs have their names, as finished, and removes the rows.

        Of an earlier prediction with other settings, files that this one does not have are removed, too: they would
        pass for its results.
        """
        if self.finished.is_file():
            earlier = read_json(self.finished)["summary"].get("outputs", ())
            for name in set(earlier) - set(summary.get("outputs", ())):
                (self.out / name).unlink(missing_ok=True)
        write_json(self.finished, {"header": dict(self.header), "summary": dict(summary)})
        self._clear()

    @contextmanager
    def claimed(self, rows: range) -> Iterator[None]:
        """Keeps other processes away from these rows.

        Raises:
            UserError: Another process predicts some of them.
        """
        with locked(self._lock, rows.start, max(1, len(rows))) as got:
            if not got:
                raise UserError(f"another process predicts {self.out / self.name}; wait for it, or give another --out")
            yield

    @contextmanager
    def finishing(self) -> Iterator[bool]:
        """Whether this process, and no other, may write the outputs now."""
        with locked(self._lock, _FINISHING, 1) as got:
            yield got

    @property
    def _header_file(self) -> Path:
        return self.folder / "header.json"

    def _begun(self) -> Header | None:
        """The header of the rows that are there; None if there are none, or none that say what they are of."""
        return read_json(self._header_file) if self._header_file.is_file() else None

    def _clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for lock in (self._lock, self._begin_lock):
            with suppress(OSError):  # Windows keeps files that are open
                lock.unlink()

    def _refusal(self, what: str, key: str, before: Header) -> str:
        return (
            f"{what} with another {key}: {_shown(before, key)}, now {_shown(self.header, key)}; give another --out, or "
            "--overwrite to start over"
        )


def first_difference(before: Header, now: Header) -> str | None:
    """The first key, dots between levels, whose values differ; None if there is none."""
    for key in dict.fromkeys([*now, *before]):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            if (inner := first_difference(old, new)) is not None:
                return f"{key}.{inner}"
        elif old != new:
            return key
    return None


def _shown(header: Header, key: str) -> str:
    value: Any = header
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return "unset" if value is None else str(value)
