"""W&B runs that its own comparison of students understands: grouped by experiment, typed by kind, with costs."""

import os
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only


def build_wandb_logger(folder: Path, name: str, experiment: str, kind: str, facts: dict[str, Any]) -> WandbLogger:
    """A logger that is online only with a key, and else writes files for a later `wandb sync`."""
    os.environ.setdefault("WANDB_SILENT", "true")
    offline = "WANDB_API_KEY" not in os.environ and os.environ.get("WANDB_MODE") != "online"
    logger = WandbLogger(
        name=name, save_dir=folder, project="distill", group=experiment, job_type=kind, offline=offline, config=facts
    )
    if rank_zero_only.rank != 0:  # type: ignore[attr-defined]
        return logger
    costs = {key: facts[key] for key in ("params", "macs", "cpu_latency_ms") if key in facts}
    logger.experiment.summary.update(costs)
    return logger
