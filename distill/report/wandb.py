"""One W&B run for each run folder, whatever fits, resumptions and tests write to it.

`wandb.json` in the run folder holds what makes them one: the id, and what W&B compares runs by. Names are flat and made
of letters and underscores, as W&B can sort and filter them, and a value of the summary never has a logged metric's
name, whose next value would replace it.
"""

import json
import logging
import math
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from typing import Any

import wandb
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from distill.files import write_json
from distill.runs.folder import RunFolder

logger = logging.getLogger(__name__)

_COSTS = {"params": "cost_params", "macs": "cost_macs", "cpu_ms": "cost_cpu_ms"}
_RENAMED = {"data": "dataset"}
_TIMEOUT = 20  # seconds to wait for a server that does not answer
_OFFLINE = ("offline", "dryrun")
_unusable = False  # the server, as an earlier run of this process found


class RunWandbLogger(WandbLogger):
    """Lightning's logger on a W&B run of its own, which it finishes with the fit, whether that ends well or not.

    Args:
        folder: The run folder.
        group: The experiment, in which W&B compares runs.
        kind: "distil" or "fine-tune".
        facts: Components, settings and costs of the run.
    """

    def __init__(self, folder: RunFolder, group: str, kind: str, facts: Mapping[str, Any]) -> None:
        run = None
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            run = _open(folder, _identity(folder, group, kind, facts))
        super().__init__(experiment=run, save_dir=folder.path)
        self._folder = folder

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Adds the last validation to the summary, and finishes the run."""
        super().finalize(status)
        run = self._experiment
        if run is not None:
            last = {key: value for key, value in dict(run.summary).items() if key.startswith("val/")}
            _summarise(run, self._folder, last)
            run.finish(exit_code=0 if status == "success" else 1)


def log_scores(folder: RunFolder, group: str, facts: Mapping[str, Any], scores: Mapping[str, Any]) -> None:
    """Adds the scores of a test or a validation to the W&B run of the folder, which gets one if it has none."""
    identity = _stored(folder) or _identity(folder, group, "test", facts)
    run = _open(folder, identity)
    if run is not None:
        _summarise(run, folder, scores)
        run.finish()


def _identity(folder: RunFolder, group: str, kind: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What wandb.json holds, for a folder that starts or goes on; the id is the folder's own."""
    return {
        "id": _stored(folder).get("id") or secrets.token_hex(4),
        "name": folder.name,
        "group": group,
        "job_type": kind,
        "config": {_RENAMED.get(key, key): value for key, value in facts.items() if key not in _COSTS},
        "summary": {_COSTS[key]: value for key, value in facts.items() if key in _COSTS},
    }


def _stored(folder: RunFolder) -> dict[str, Any]:
    path = folder.wandb_identity
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _open(folder: RunFolder, identity: dict[str, Any]) -> Any:
    """The W&B run of the folder: online where there is a key, else in files for `wandb sync`.

    A dashboard never ends a run: a failure is one warning.
    """
    global _unusable
    write_json(folder.wandb_identity, identity)
    given = os.environ.get("WANDB_MODE")
    online = given not in _OFFLINE if given else "WANDB_API_KEY" in os.environ
    if online and not _unusable:
        try:
            return _init(folder, identity, "online")
        except Exception as error:
            _unusable = True
            logger.warning(
                "W&B cannot be used online (%s); this run is written offline, and `wandb sync` in %s sends it later",
                _line(error),
                folder,
            )
            if wandb.run is None:  # else it is the user's, and goes on
                wandb.teardown()  # which frees the id
            for abandoned in folder.wandb.glob(f"run-*-{identity['id']}"):
                shutil.rmtree(abandoned)
    try:
        return _init(folder, identity, "offline")
    except Exception as error:
        logger.warning("this run is not written for W&B: %s", _line(error))
        return None


def _init(folder: RunFolder, identity: dict[str, Any], mode: Any) -> Any:
    silent = os.environ.get("WANDB_SILENT", "true").lower() in ("true", "1")
    timeout = float(os.environ.get("WANDB_INIT_TIMEOUT", _TIMEOUT))
    wandb.setup(wandb.Settings(silent=silent))
    if mode == "online" and not wandb.login(prompt=False, verify=False):
        raise ValueError("no API key is configured")
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "distill"),
        dir=folder.path,
        mode=mode,
        resume="allow",
        reinit="create_new",  # beside runs of others in this process
        settings=wandb.Settings(silent=silent, init_timeout=timeout),
        **{key: identity[key] for key in ("id", "name", "group", "job_type", "config")},
    )
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    run.summary.update(identity["summary"])
    return run


def _summarise(run: Any, folder: RunFolder, values: Mapping[str, Any]) -> None:
    """Adds to the summary, and to wandb.json, from which the folder's next stage repeats it."""
    finite = {
        re.sub(r"\W", "_", key): value for key, value in values.items() if value is not None and math.isfinite(value)
    }
    run.summary.update(finite)
    identity = _stored(folder)
    write_json(folder.wandb_identity, identity | {"summary": identity["summary"] | finite})


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
