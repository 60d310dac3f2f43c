"""One W&B run for each run folder, to which fits, resumptions and tests add while they run.

A dashboard never ends a run: what goes wrong with it is one warning.
"""

import logging
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import wandb
from pytorch_lightning.loggers import Logger

from distill.errors import first_line
from distill.report.dashboards.fields import Identity, config_of, identity_of, renamed, summary_of
from distill.report.dashboards.identity import remember, stored_id
from distill.report.dashboards.media import log_classes, log_pictures
from distill.report.dashboards.open_run import open_run
from distill.report.pictures.stored import PictureSet, read_pictures
from distill.report.run_record import RunRecord
from distill.runs.folder import RunFolder
from distill.runs.loggers import PictureLogger

logger = logging.getLogger(__name__)

_OFFLINE = ("offline", "dryrun")
_unusable = False  # the server, as an earlier run of this process found


class RunWandbLogger(Logger, PictureLogger):
    """Logs a fit to the W&B run of its folder, and finishes that with the fit, whether the fit ends well or not.

    Args:
        folder: The run folder, in which recipe and environment are written.
        facts: Components, settings and costs of the run.

    Raises:
        Exception: Whatever W&B raises where it cannot even write files.
    """

    def __init__(self, folder: RunFolder, facts: Mapping[str, Any]) -> None:
        super().__init__()
        self._folder = folder
        remember(folder, stored_id(folder) or secrets.token_hex(4), facts)
        record = _record(folder, facts)
        self._run = _open(record, identity_of(record))
        for key in [key for key in self._run.summary.keys() if key.startswith(("test_", "val_"))]:  # noqa: SIM118
            del self._run.summary[key]  # scores of other weights, once training goes on

    @property
    def name(self) -> str:
        """W&B."""
        return "wandb"

    @property
    def version(self) -> str | None:
        """The id of the run at W&B."""
        return stored_id(self._folder)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds a row to the history."""
        row = {"step": step, **metrics}
        self._run.log({renamed(column): value for column, value in row.items() if value is not None})

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """No-op: the config has them."""

    def log_pictures(self, pictures: PictureSet) -> None:
        """Adds the pictures of a validation to the history."""
        log_pictures(self._run, pictures)

    def finalize(self, status: str) -> None:
        """Writes the summary from the run folder, and finishes the run."""
        self._run.summary.update(summary_of(RunRecord.read(self._folder)))
        self._run.finish(exit_code=0 if status == "success" else 1)


def log_scores(folder: RunFolder, facts: Mapping[str, Any], stage: str) -> None:
    """Adds what a test or a validation wrote to the W&B run of the folder, which gets one if it has none.

    Args:
        folder: The run folder.
        facts: Components and settings of the run.
        stage: "test" or "validate".
    """
    record = _record(folder, facts)
    identity = identity_of(record)
    if stored_id(folder) is None:
        identity = replace(identity, job_type="test")  # no fit has been there
        remember(folder, identity.id, facts)
    try:
        run = _open(record, identity)
        for pictures in read_pictures(folder):
            if pictures.stage == stage:
                log_pictures(run, pictures)
        if stage == "test":
            log_classes(run, record)
        run.finish()
    except Exception as error:
        logger.warning("these scores are not written for W&B: %s", first_line(error))


def _record(folder: RunFolder, facts: Mapping[str, Any]) -> RunRecord:
    """The run folder with what is known of a run that has not finished."""
    record = RunRecord.read(folder)
    return replace(record, facts={**facts, **record.facts})


def _open(record: RunRecord, identity: Identity) -> Any:
    """The W&B run of the folder: online where there is a key, else in files for `wandb sync`."""
    global _unusable
    folder = record.folder
    given = os.environ.get("WANDB_MODE")
    online = given not in _OFFLINE if given else "WANDB_API_KEY" in os.environ
    if online and not _unusable:
        try:
            return _begin(record, identity, "online")
        except Exception as error:
            _unusable = True
            logger.warning(
                "W&B cannot be used online (%s); this run is written offline, and `wandb sync` in %s sends it later",
                first_line(error),
                folder,
            )
            if wandb.run is None:  # else it is the user's, and goes on
                wandb.teardown()  # which frees the id
            for abandoned in folder.wandb.glob(f"run-*-{identity.id}"):
                shutil.rmtree(abandoned)
    return _begin(record, identity, "offline")


def _begin(record: RunRecord, identity: Identity, mode: Any) -> Any:
    run = open_run(record.folder.path, identity, config_of(record), mode, resume=True)
    run.summary.update(summary_of(record))
    return run
