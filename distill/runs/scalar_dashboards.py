"""TensorBoard and MLflow: Lightning's own loggers of scalars, which keep a run's files in its folder."""

import logging
import os
import secrets
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import MLFlowLogger, TensorBoardLogger

from distill.files import read_json, write_json
from distill.runs.folder import RunFolder

_TALKATIVE = ("mlflow", "pytorch_lightning.loggers.mlflow")  # about every table and experiment that they make


def tensorboard_logger(folder: RunFolder, keep_until: int = -1) -> TensorBoardLogger:
    """The logger of a run's event files, which a resumed run continues.

    Args:
        folder: The run folder.
        keep_until: Step from which an interrupted run resumes, from which on TensorBoard hides what it logged. -1 for a
            run that does not resume.
    """
    purge: dict[str, Any] = {"purge_step": keep_until} if keep_until >= 0 else {}
    return TensorBoardLogger(folder.path, name="", version=folder.TENSORBOARD, **purge)


def mlflow_logger(folder: RunFolder, experiment: str, facts: Mapping[str, Any]) -> MLFlowLogger:
    """The logger of a folder's one MLflow run, at the server of `MLFLOW_TRACKING_URI` or in a database in the folder.

    `mlflow/run.json` holds what resumption and scoring continue. The database has a name of its own, because MLflow
    keeps those open that it has seen, and a run that starts over in the folder has another one.

    Args:
        folder: The run folder.
        experiment: MLflow's experiment.
        facts: Components, settings and costs, the parameters of a new run.
    """
    import mlflow

    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    server = os.environ.get("MLFLOW_TRACKING_URI") or None
    path = folder.mlflow / "run.json"
    stored = read_json(path) if path.is_file() else {}
    if stored.get("server") != server:
        stored = {}
    folder.mlflow.mkdir(parents=True, exist_ok=True)
    database = stored.get("database") or f"{secrets.token_hex(4)}.db"
    place = server or f"sqlite:///{(folder.mlflow / database).resolve()}"
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    logger = MLFlowLogger(experiment, folder.name, tracking_uri=place, run_id=stored.get("run_id"))
    run_id = logger.run_id
    mlflow.set_tracking_uri(before)  # which Lightning's logger sets for the whole process
    if not stored:
        write_json(path, {"server": server, "database": None if server else database, "run_id": run_id})
        logger.log_hyperparams(dict(facts))
    return logger
