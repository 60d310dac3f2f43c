"""The `run` group of a recipe."""

from dataclasses import dataclass


@dataclass
class RunSettings:
    """Where a run writes, and what it belongs to.

    Args:
        dir: The run folder; by default runs/ and the recipe's name.
        overwrite: Start over in a folder that already holds a run.
        experiment: Name that groups runs for comparison; by default the recipe's name.
        reference: What the run is, in a few words, where it is a bound and not a student to choose, such as
            "all-labels". Comparisons name its row so, and do not rank it.
        checkpoint_every: Optimizer steps between two writes of checkpoints/last.ckpt.
        loggers: Dashboards that metrics go to beside metrics.csv, of "wandb", "tensorboard" and "mlflow"; by default
            W&B where it is installed and not switched off.
        pictures_every: Validations of a fit between two sets of pictures in fit_pictures/; the last one is shown, too.
            Sets become rarer in long runs: half as frequent after 16 of them, a quarter after 32, ... 0 for none.
        seeds: A run for each of these seeds, in folders seed0, seed1, ... inside the run folder, then mean and spread
            of their scores. `seed_everything` is not used then.
    """

    dir: str | None = None
    overwrite: bool = False
    experiment: str | None = None
    reference: str | None = None
    checkpoint_every: int = 200
    loggers: list[str] | None = None
    pictures_every: int = 5
    seeds: list[int] | None = None
