"""The run folder: the names of everything in it, the states it can be in, and how its files are read.

It can be read, compared and reported without W&B and without a network.
"""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

from distill.errors import UserError
from distill.evaluation.metrics import is_metric
from distill.files import read_json, write_json, write_text
from distill.recipe.compose import read_recipe
from distill.recipe.find import RUN_RECIPE, RUN_STUDENT

STAGES = ("validate", "test")
_RENAMED_FACTS = {"cpu_latency_ms": "cpu_ms"}  # names in summaries of earlier versions


class RunState(Enum):
    """The state of the run in a folder."""

    FRESH = "fresh"  # there is nothing to resume from
    INTERRUPTED = "interrupted"  # it can be resumed
    FINISHED = "finished"  # student.safetensors and summary.json are written
    SEVERAL_SEEDS = "several seeds"  # the folder holds a run folder for each seed


@dataclass(frozen=True)
class RunFolder:
    """Everything that a run writes, by name.

    Args:
        path: The folder, which need not exist yet.
    """

    path: Path

    SUMMARY: ClassVar = "summary.json"
    CARD: ClassVar = "card.md"
    METRICS: ClassVar = "metrics.csv"
    ENVIRONMENT: ClassVar = "environment.json"
    CHECKPOINTS: ClassVar = "checkpoints"
    LAST: ClassVar = "last.ckpt"
    PREVIOUS: ClassVar = "previous.ckpt"  # what last.ckpt held before
    BEST: ClassVar = "best.ckpt"
    WANDB: ClassVar = "wandb"
    WANDB_IDENTITY: ClassVar = "wandb.json"
    TENSORBOARD: ClassVar = "tensorboard"
    MLFLOW: ClassVar = "mlflow"

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.path.name

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / RUN_RECIPE

    @property
    def environment(self) -> Path:
        """Versions, hardware, and the folder that the run was started in."""
        return self.path / self.ENVIRONMENT

    @property
    def metrics(self) -> Path:
        """Metrics by step."""
        return self.path / self.METRICS

    @property
    def checkpoints(self) -> Path:
        """The folder of training checkpoints."""
        return self.path / self.CHECKPOINTS

    @property
    def last(self) -> Path:
        """The training state that the run resumes from."""
        return self.checkpoints / self.LAST

    @property
    def best(self) -> Path:
        """The training checkpoint with the best validation score."""
        return self.checkpoints / self.BEST

    @property
    def student(self) -> Path:
        """The exported student."""
        return self.path / RUN_STUDENT

    @property
    def summary(self) -> Path:
        """The summary: parts of the run, costs of its student, and last metrics; a finished run has it."""
        return self.path / self.SUMMARY

    @property
    def card(self) -> Path:
        """The summary for people."""
        return self.path / self.CARD

    @property
    def wandb(self) -> Path:
        """W&B's files of the run."""
        return self.path / self.WANDB

    @property
    def wandb_identity(self) -> Path:
        """Identity and summary of the run at W&B, which resuming and testing continue."""
        return self.path / self.WANDB_IDENTITY

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.path / self.TENSORBOARD

    @property
    def mlflow(self) -> Path:
        """The folder of the run's identity at MLflow and, where MLflow has no server, of its database."""
        return self.path / self.MLFLOW

    def failed_batch(self, rank: int = 0) -> Path:
        """The files of batches at which training diverged, one for each process."""
        return self.path / f"failed_batch{f'_{rank}' if rank else ''}.pt"

    def scores(self, stage: str) -> Path:
        """Scores of "validate" or "test"."""
        return self.path / f"{stage}.json"

    def facts(self, stage: str) -> Path:
        """The facts of a scoring: checkpoint, step and settings."""
        return self.path / f"{stage}_facts.json"

    def predictions(self, stage: str) -> Path:
        """Instances in COCO's result format."""
        return self.path / f"{stage}_predictions.json"

    def class_scores(self, stage: str) -> Path:
        """Scores of each class."""
        return self.path / f"{stage}_classes.csv"

    def figure(self, stage: str, what: str) -> Path:
        """A picture of scores: "precision_recall", "confusion" or "predictions"."""
        return self.path / f"{stage}_{what}.png"

    def pictures(self, stage: str) -> Path:
        """The folder of the pictures of "fit", in which each step has one, "validate" or "test"."""
        return self.path / f"{stage}_pictures"

    def seed(self, seed: int) -> "RunFolder":
        """The run of one of several seeds."""
        return RunFolder(self.path / f"seed{seed}")

    def seed_scores(self, stage: str) -> Path:
        """Mean and standard deviation over several seeds."""
        return self.path / f"{stage}_seeds.json"

    def written_by_scoring(self) -> list[Path]:
        """Everything that `distill validate` and `distill test` write, whether it exists or not."""
        return [
            path
            for stage in STAGES
            for path in (
                self.scores(stage),
                self.facts(stage),
                self.predictions(stage),
                self.class_scores(stage),
                *(self.figure(stage, what) for what in ("precision_recall", "confusion", "predictions")),
                self.pictures(stage),
            )
        ]

    def written(self) -> list[Path]:
        """Everything that a run writes, whether it exists or not; anything else in the folder is the user's."""
        of_fit = [self.checkpoints, self.student, self.summary, self.card, self.metrics, self.recipe, self.environment]
        dashboard = [self.pictures("fit"), self.wandb, self.wandb_identity, self.tensorboard, self.mlflow]
        failed = self.path.glob("failed_batch*.pt")
        return [*of_fit, *dashboard, *failed, *self.written_by_scoring()]

    @property
    def state(self) -> RunState:
        """How far the run has come."""
        if any(self.path.glob(f"seed*/{RUN_RECIPE}")):
            return RunState.SEVERAL_SEEDS
        if self.summary.is_file():
            return RunState.FINISHED
        if any((self.checkpoints / name).is_file() for name in (self.LAST, self.PREVIOUS)):
            return RunState.INTERRUPTED
        return RunState.FRESH

    @property
    def holds_weights(self) -> bool:
        """Whether there are trained weights, which a fit must not replace unasked."""
        checkpoints = self.checkpoints.glob("*.ckpt")  # hidden ones are of a process that was killed while it wrote
        return self.student.exists() or any(path.name[0] != "." for path in checkpoints)

    def read_recipe(self) -> dict[str, Any]:
        """The resolved recipe, with the names that keys have today.

        Raises:
            UserError: There is none.
        """
        if not self.recipe.is_file():
            raise UserError(f"{self} is no run folder: it has no {RUN_RECIPE}; give folders that `distill fit` wrote")
        return read_recipe(self.recipe)

    def read_summary(self) -> tuple[dict[str, Any], dict[str, float | None]]:
        """Facts about the run, and its last metrics; a metric that is not defined is None."""
        content = {_RENAMED_FACTS.get(key, key): value for key, value in read_json(self.summary).items()}
        facts = {key: value for key, value in content.items() if key.isidentifier()}  # not learning rates of older runs
        return facts, {key: value for key, value in content.items() if is_metric(key)}

    def read_scores(self, stage: str) -> dict[str, float | None]:
        """Scores of "validate" or "test".

        Raises:
            UserError: The run has not been scored.
        """
        if not self.scores(stage).is_file():
            raise UserError(f"{self} has no {self.scores(stage).name}; run `distill {stage} {self}` first")
        return read_json(self.scores(stage))

    def read_facts(self, stage: str) -> dict[str, Any]:
        """Reads the facts of a scoring; empty for runs of early versions."""
        return read_json(self.facts(stage)) if self.facts(stage).is_file() else {}

    def read_environment(self) -> dict[str, Any]:
        """Versions and hardware; empty where the file is missing."""
        return read_json(self.environment) if self.environment.is_file() else {}

    def begin(self, recipe: str, environment: Mapping[str, Any]) -> None:
        """Writes the first files of a run.

        Args:
            recipe: The resolved recipe as YAML.
            environment: See `distill.runs.metadata.environment`.
        """
        write_text(self.recipe, recipe)
        write_json(self.environment, {**environment, "started_in": str(Path.cwd())})

    def finish(self, facts: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Writes the summary, which makes the run a finished one."""
        write_json(self.summary, {**facts, **metrics})

    def clear_scores(self) -> None:
        """Removes scores, which are those of other weights once training goes on."""
        for path in self.written_by_scoring():
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def require_fresh(self, overwrite: bool, resuming: bool) -> None:
        """Refuses to mix two runs.

        Raises:
            UserError: The folder holds a run and neither resuming nor overwriting was asked for, or it holds the runs
                of several seeds.
        """
        if self.state is RunState.SEVERAL_SEEDS:
            raise UserError(
                f"{self} holds the runs of several seeds; add one with --run.seeds, or choose another folder with "
                "--run.dir"
            )
        if self.holds_weights and not overwrite and not resuming:
            raise UserError(
                f"{self} already holds a run; resume it with --ckpt_path last, start over with --run.overwrite true, "
                "or choose another folder with --run.dir"
            )

    def require_writable(self) -> None:
        """Makes the folder.

        Raises:
            UserError: It cannot be made, or not be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise UserError(
                f"run.dir {self} cannot be written ({error.strerror}); name another with --run.dir"
            ) from error

    def require_there(self) -> None:
        """Refuses to continue in a folder that has disappeared.

        Raises:
            UserError: The folder of a run that has begun lacks its recipe.
        """
        if not self.recipe.is_file():
            raise UserError(f"{self} is gone, or its disk is; bring it back, then go on with --ckpt_path last")
