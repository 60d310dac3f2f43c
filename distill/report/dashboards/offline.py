"""Offline runs of W&B, written from run folders: also of runs that were made without W&B, or did not finish.

They are complete and say nothing of a run that went before, so that a run of the same id is replaced when they are
sent.
"""

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import wandb

from distill.errors import UserError
from distill.report.dashboards.fields import config_of, history_of, identity_of, summary_of
from distill.report.dashboards.identity import by_id, id_of
from distill.report.dashboards.media import log_classes, log_pictures
from distill.report.dashboards.open_run import open_run
from distill.report.pictures.stored import read_pictures
from distill.report.run_record import RunRecord

# What W&B notes of the process and the machine, which are not those of the run.
_NOT_OF_THE_RUN: dict[str, Any] = {
    "console": "off",
    "disable_git": True,
    "host": "",
    "save_code": False,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}


def write_offline(record: RunRecord, place: Path) -> Path:
    """Writes the offline run of one run folder, see `write_all`.

    Returns:
        Its folder, `offline-run-<time>-<id>` in `place`.
    """
    return write_all([record], place)[0]


def write_all(
    records: Sequence[RunRecord], place: Path, shown: Callable[[list[RunRecord]], Iterable[RunRecord]] = iter
) -> list[Path]:
    """Writes a complete offline run for each run folder; the run folders are only read.

    Older ones of the same runs in that place are replaced once all new ones are complete. Runs of W&B that this
    process has open are ended.

    Args:
        records: The runs.
        place: The folder of offline runs, which is made.
        shown: Passes the runs on one by one, and shows how far it has come.

    Returns:
        Their folders, `offline-run-<time>-<id>` in `place`.

    Raises:
        UserError: Two folders hold the same run, or the place cannot be written.
    """
    runs = by_id(records)
    try:
        place.mkdir(parents=True, exist_ok=True)
        for identity in runs:
            for abandoned in place.glob(f".{identity}-*"):  # by a process that was killed
                shutil.rmtree(abandoned)
        with ExitStack() as stack:
            partial = {
                identity: Path(stack.enter_context(tempfile.TemporaryDirectory(dir=place, prefix=f".{identity}-")))
                for identity in runs
            }
            try:
                for record in shown(list(runs.values())):
                    _write(record, partial[id_of(record)])
            finally:
                _end_runs()
            return [_put(partial[identity], place, identity) for identity in runs]
    except OSError as error:
        raise UserError(
            f"{place} cannot be written ({error.strerror}); free space or permit writing there, or name another place"
        ) from error


def _end_runs() -> None:
    """Ends the runs that this process has open, also one that an error interrupted, and lets go of their files.

    W&B goes on to log into the file of the last run. That file lies in a folder that is about to go, and a log that
    cannot be opened would end whatever this process does next.
    """
    if wandb.run is not None:
        wandb.run.finish(exit_code=1)
    wandb.teardown()  # until then the end of a file may not be on the disk
    logger = logging.getLogger("wandb")
    for handler in [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]:
        logger.removeHandler(handler)
        handler.close()


def _write(record: RunRecord, partial: Path) -> None:
    run = open_run(partial, identity_of(record), config_of(record), "offline", **_NOT_OF_THE_RUN)
    for row in history_of(record.folder):
        run.log(row)
    for pictures in read_pictures(record.folder):
        log_pictures(run, pictures)
    log_classes(run, record)
    run.summary.update(summary_of(record))
    run.finish(exit_code=0 if record.finished else 1)


def _put(partial: Path, place: Path, identity: str) -> Path:
    """Moves a complete offline run into place."""
    (made,) = partial.glob(f"wandb/offline-run-*-{identity}")
    for name in ("logs", "tmp"):  # of this process; one has a link into the user's cache
        shutil.rmtree(made / name)
    for older in place.glob(f"offline-run-*-{identity}"):
        older.rename(partial / older.name)
    return made.rename(place / made.name)
