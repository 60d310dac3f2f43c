"""Pictures and tables as a W&B run takes them: as files in its own folder, which may be moved before it is sent."""

from typing import Any

import wandb

from distill.report.dashboards.fields import CLASSES, STEP, class_table, media_of
from distill.report.pictures.stored import PictureSet
from distill.report.run_record import RunRecord


def log_pictures(run: Any, pictures: PictureSet) -> None:
    """Adds the pictures of one validation or test to the history: a list of images under each key."""
    shown = {
        key: [wandb.Image(str(path), caption=caption) for path, caption in images]
        for key, images in media_of(pictures).items()
    }
    if shown:
        run.log({**shown, STEP: pictures.step})


def log_classes(run: Any, record: RunRecord) -> None:
    """Adds the table of the scores of each class to the history; nothing where there is none."""
    found = class_table(record)
    if found is None:
        return
    columns, rows = found
    table = wandb.Table(columns=columns, data=rows, allow_mixed_types=True)
    # Bound to the run before it is logged. Else W&B makes an artifact of it, whose file lies in the user's data folder
    # and is missing once the run is sent from another place.
    table.bind_to_run(run, CLASSES, run.step)
    step = record.folder.read_facts("test").get("step")
    run.log({CLASSES: table} if step is None else {CLASSES: table, STEP: step})
