"""How a W&B run is opened, live or for what a run folder holds."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import wandb

from distill.errors import UserError
from distill.report.dashboards.fields import STEP, Identity

_TIMEOUT = 20  # seconds to wait for a server that does not answer


def open_run(
    place: Path,
    identity: Identity,
    config: Mapping[str, Any],
    mode: Literal["online", "offline"],
    resume: bool = False,
    **settings: Any,
) -> Any:
    """Opens a W&B run beside any other of this process.

    Args:
        place: The folder that gets the folder `wandb`.
        identity: What the run is listed by.
        config: Its config.
        mode: Whether it is sent at once.
        resume: Whether it adds to what W&B has of this id. Else it replaces that.
        settings: More of `wandb.Settings`.

    Raises:
        UserError: `WANDB_INIT_TIMEOUT` is no number.
        Exception: Whatever W&B raises where there is no key, no network or no space.
    """
    silent = os.environ.get("WANDB_SILENT", "true").lower() in ("true", "1")
    timeout = _timeout()
    wandb.setup(wandb.Settings(silent=silent))
    if mode == "online" and not wandb.login(prompt=False, verify=False):
        raise ValueError("no API key is configured")
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "distill"),
        dir=place,
        mode=mode,
        id=identity.id,
        name=identity.name,
        group=identity.group,
        job_type=identity.job_type,
        tags=identity.tags,
        config=dict(config),
        resume="allow" if resume else None,
        reinit="create_new",
        settings=wandb.Settings(silent=silent, init_timeout=timeout, **settings),
    )
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP)
    return run


def _timeout() -> float:
    given = os.environ.get("WANDB_INIT_TIMEOUT", _TIMEOUT)
    try:
        return float(given)
    except ValueError as error:
        raise UserError(f"WANDB_INIT_TIMEOUT is {given}; it must be a number of seconds") from error
