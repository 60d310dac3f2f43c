"""`distill fit|validate|test RECIPE [--key value]`: LightningCLI with one convenience and a run folder.

The convenience: a first positional word that names a recipe or a run folder stands for `--config`.
"""

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from distill.errors import Stopped, UserError
from distill.launch.initial_weights import require_teacher, without_initial_weights
from distill.launch.quiet import quiet
from distill.launch.seeds import run_each
from distill.launch.smaller import smaller_run
from distill.phases import phase
from distill.recipe.check import TRAINER_DEFAULTS
from distill.recipe.errors import explain, hidden_user_error
from distill.recipe.find import split
from distill.recipe.overrides import expand
from distill.report.write_scores import report_scores
from distill.runs.announcement import announce
from distill.runs.checkpoint_io import AtomicCheckpointIO, last_checkpoint
from distill.runs.first_step import FirstStep
from distill.runs.folder import RunFolder, RunSettings, require_fresh, require_writable, say_goodbye
from distill.runs.last_checkpoint import LastCheckpoint
from distill.runs.loggers import WaitingLogger, build_loggers, log_scores
from distill.runs.metadata import components, run_facts, run_kind
from distill.runs.moved import explain_missing, moved_paths, words_for
from distill.runs.progress import DataWait, progress_display
from distill.runs.replacement import recover
from distill.runs.resume_checks import require_same_recipe, require_same_selection, require_steps_to_go
from distill.training.allocator import keep_freed_memory
from distill.training.final_validation import FinalValidation
from distill.training.optim import batches_per_epoch
from distill.weights import read_training_step


class RecipeCLI(LightningCLI):
    """LightningCLI that knows run folders.

    Args:
        recipe: The recipe file.
        args: Everything that LightningCLI parses.
    """

    def __init__(self, recipe: Path, args: list[str]) -> None:
        self.recipe = recipe
        self.folder_given = any(word.partition("=")[0] == "--run.dir" for word in args)
        self.wait = DataWait()
        self.resumed_step = -1
        # A misspelt key must not pass as the abbreviation of another one.
        parser_settings = {"exit_on_error": False, "allow_abbrev": False}
        super().__init__(
            pl.LightningModule,
            pl.LightningDataModule,
            args=expand(args),
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_callback=None,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            parser_kwargs=parser_settings | dict.fromkeys(("fit", "validate", "test"), parser_settings),
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the `run` group."""
        parser.add_class_arguments(RunSettings, "run")

    @property
    def stage(self) -> str:
        """fit, validate or test."""
        return str(self.subcommand)

    @property
    def settings(self) -> Any:
        """The `run` group."""
        return self.config[self.stage].run

    @property
    def module_class(self) -> type[pl.LightningModule]:
        """The module that the recipe names."""
        module, _, name = self.config[self.stage].model.class_path.rpartition(".")
        found: type[pl.LightningModule] = getattr(import_module(module), name)
        return found

    def before_instantiate_classes(self) -> None:
        """Finds the run folder, and refuses what cannot work before anything is built."""
        config = self.config[self.stage]
        if self.recipe.name == "recipe.yaml" and not self.folder_given:  # a run folder, which may have been moved
            self.folder = self.recipe.parent
        else:
            self.folder = Path(config.run.dir) if config.run.dir else Path("runs") / self.recipe.stem
        recover(self.folder)
        config.run.dir = str(self.folder)
        config.run.experiment = config.run.experiment or self.folder.name
        if config.run.seeds is not None:
            return  # what follows concerns one run
        config.ckpt_path = self._checkpoint(config.ckpt_path)
        if self.stage != "fit":
            config.verbose = False  # the table that `_report` prints instead
            for argument in getattr(self.module_class, "training_only", ()):
                config.model.init_args[argument] = None  # a teacher's file may be gone by now
        if config.ckpt_path is not None:
            require_teacher(config.model, "resuming" if self.stage == "fit" else "scoring a distillation")
        if self.stage == "fit":
            if any(self.folder.glob("seed*/recipe.yaml")):
                raise UserError(
                    f"{self.folder} holds the runs of several seeds; add one with --run.seeds, or choose another "
                    "folder with --run.dir"
                )
            self._require_steps()
            require_fresh(self.folder, config.run.overwrite, self._resumes())
            if config.ckpt_path is not None:
                self._require_continuation(config.ckpt_path)
            if config.trainer.max_steps == -1 and config.trainer.max_epochs in (-1, None):
                raise UserError("the recipe sets neither trainer.max_steps nor trainer.max_epochs; set one of them")
        if config.trainer.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
            raise UserError(
                f"trainer.accelerator is {config.trainer.accelerator!r}, but PyTorch {torch.__version__} sees no GPU; "
                "use --trainer.accelerator cpu, or see `distill doctor`"
            )

    def _require_steps(self) -> None:
        """Refuses counts of steps that mean nothing."""
        config = self.config["fit"]
        counts = {
            "trainer.max_steps": config.trainer.max_steps,
            "trainer.val_check_interval": config.trainer.val_check_interval,
            "run.checkpoint_every": config.run.checkpoint_every,
        }
        for key, count in counts.items():
            if count == 0:
                raise UserError(f"{key} is 0; it must be above 0")

    def _require_continuation(self, checkpoint: str) -> None:
        """Refuses to go on from a checkpoint of the run's own folder unless the recipe is the run's, and not done."""
        if self._is_own(Path(checkpoint)):
            require_same_recipe(self.folder, self.resolved_recipe())
            limits = self.config["fit"].trainer
            require_steps_to_go(self.folder, Path(checkpoint), limits.max_steps, limits.max_epochs)

    def _resumes(self) -> bool:
        """Whether the run of the folder goes on."""
        checkpoint = self.config[self.stage].ckpt_path
        return checkpoint is not None and self._is_own(Path(checkpoint))

    def _is_own(self, checkpoint: Path) -> bool:
        return checkpoint.resolve().parent == (self.folder / "checkpoints").resolve()

    def _checkpoint(self, given: str | None) -> str | None:
        """Resolves `last` and `best` inside the run folder; scoring without a path takes the last checkpoint."""
        if given is None and self.stage == "fit":
            return None
        name = given or "last"
        path = self.folder / "checkpoints" / f"{name}.ckpt" if name in ("last", "best") else Path(name)
        if name == "last":
            path = last_checkpoint(path.parent) or path
        if not path.is_file():
            way_out = f"run `distill fit {self.recipe}` first, or pass --ckpt_path"
            raise UserError(f"there is no checkpoint {path}; {way_out}")
        self.resumed_step = read_training_step(path)
        return str(path)

    def _set_seed(self) -> None:
        """Refuses a seed that NumPy refuses."""
        seed = self.config[self.stage].seed_everything
        if not isinstance(seed, bool) and isinstance(seed, int) and not 0 <= seed < 2**32:
            raise UserError(f"seed_everything is {seed}; it must lie in 0 to {2**32 - 1}")
        super()._set_seed()

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would read hyper-parameters from the checkpoint; ours are in the recipe."""

    def instantiate_classes(self) -> None:
        """Nothing where the recipe asks for several seeds, since each of them gets a run of its own."""
        if self.settings.seeds is not None:
            return
        config = self.config
        if config[self.stage].ckpt_path is not None:
            self.config = config.clone()
            self.config[self.stage].model = without_initial_weights(config[self.stage].model)
        with phase("building the model"):
            super().instantiate_classes()
        self.config = config  # recipe.yaml says what the run began with

    def _run_subcommand(self, subcommand: str) -> None:
        if self.settings.seeds is None:
            super()._run_subcommand(subcommand)

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """The recipe's trainer with checkpoints in the run folder and our progress display."""
        display = progress_display(self.wait, lambda: smaller_run(self.recipe, self.config[self.stage].as_dict()))
        kwargs["enable_progress_bar"] = False  # Lightning's
        mine: list[pl.Callback] = [self.wait, display]
        if self.stage == "fit":
            mine.append(FinalValidation())
            if self._wants_logger():
                mine.append(LearningRateMonitor(logging_interval="step"))
            checkpoints = self.folder / "checkpoints"
            monitor, mode = getattr(self.model, "monitor", (None, "min"))
            if monitor:
                mine.append(
                    ModelCheckpoint(checkpoints, "best", monitor=monitor, mode=mode, enable_version_counter=False)
                )
            mine.append(LastCheckpoint(checkpoints, self.settings.checkpoint_every))
        trainer_config = self._get(self.config_init, "trainer", default={})
        callbacks = [*(trainer_config.get("callbacks") or []), *mine]
        plugins = trainer_config.get("plugins") or []
        plugins = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()]
        kwargs |= {"callbacks": callbacks, "plugins": plugins}
        kwargs |= {"logger": False, "default_root_dir": str(self.folder)}
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError) as error:
            raise UserError(f"the trainer refuses its settings: {error}; correct the keys under trainer") from error
        if trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()
        return trainer

    def before_fit(self) -> None:
        """Reads the data's index first, so that bad data leaves nothing behind; then opens the run folder."""
        # As `Trainer.fit` will: several processes share an epoch, and its length is asked for before.
        self.trainer.datamodule, self.datamodule.trainer = self.datamodule, self.trainer  # type: ignore[attr-defined]
        with phase("reading the data's index"):
            self.datamodule.setup("fit")
            self._check_validation()
        announce(self.trainer, self.datamodule)
        kind = run_kind(self.model, "fit")
        if kind == "fine-tune" and self.model.head is None:
            self.model.build(self.datamodule.class_names)
        facts = self._facts()
        require_writable(self.folder)
        config = self.config["fit"]
        name, resumed = self.folder.name, self._resumes()

        def loggers() -> list[Logger]:
            settings = self._settings_of_interest() | {"lr": self.trainer.optimizers[0].defaults["lr"]}
            keep = self.resumed_step if resumed else -1
            return build_loggers(self.folder, name, config.run.experiment, kind, facts | settings, keep)

        wanted = self._wants_logger()
        if wanted:
            self.trainer.loggers = [WaitingLogger(self.folder)]
        callbacks: list[pl.Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        first_step = FirstStep(self.folder, self.resolved_recipe(), resumed, loggers if wanted else None)
        callbacks.insert(callbacks.index(self.wait), first_step)  # opening the folder is no waiting for data
        # First, so that it sees the end of training before EMA does.
        callbacks.insert(0, RunFolder(self.folder, name, facts, first_step.open))

    def _check_validation(self) -> None:
        """Refuses what Lightning would refuse only once the run folder is there."""
        every = self.trainer.val_check_interval
        if self.trainer.check_val_every_n_epoch is None or not isinstance(every, int):
            return
        batches = batches_per_epoch(self.trainer, self.datamodule)
        if every > batches and self.trainer.limit_val_batches:
            raise UserError(
                f"trainer.val_check_interval is {every} batches, but an epoch has {batches}; with "
                "trainer.check_val_every_n_epoch null it counts on over epochs"
            )

    def after_fit(self) -> None:
        """Says what was written and what to do next."""
        if self.trainer.is_global_zero:
            skipped = getattr(self.datamodule, "skipped", [])
            kind, size = run_kind(self.model, "fit"), self.datamodule.image_size
            say_goodbye(self.folder, kind, self.wait.share, skipped, self.model.student, size)

    def before_test(self) -> None:
        """Checks the data, and opens the dashboards."""
        self._before_scoring("test")

    def before_validate(self) -> None:
        """Checks the data, and opens the dashboards."""
        self._before_scoring("validate")

    def after_test(self) -> None:
        """Prints and stores the scores and the predictions."""
        self._report("test")

    def after_validate(self) -> None:
        """Prints and stores the scores."""
        self._report("validate")

    def _before_scoring(self, stage: str) -> None:
        require_same_selection(self.folder, self.config[stage].data)
        best = Path(self.config[self.stage].ckpt_path).name == "best.ckpt"
        if stage == "test" and best and getattr(self.datamodule, "selects_on_test", False):
            raise UserError(
                "best.ckpt was chosen by its score on the very images that `distill test` reports; test the last "
                "checkpoint (--ckpt_path last), or fit again with --data.val_fraction 0.1, which holds out a part of "
                "the training images to choose on"
            )
        with phase("reading the data's index"):
            self.datamodule.setup(stage)
        if run_kind(self.model, "fit") == "distil" and stage == "test":
            raise UserError("a distillation run has no test split; use `distill validate`")
        if self.model.kind == "fine-tune":
            self.model.build(self.datamodule.class_names)

    def _report(self, stage: str) -> None:
        if self.trainer.is_global_zero:
            logged = {k: float(v) for k, v in self.trainer.callback_metrics.items() if "/" in k}
            checkpoint = Path(self.config[stage].ckpt_path)
            facts = {
                "checkpoint": checkpoint.name if self._is_own(checkpoint) else str(checkpoint),
                "step": self.resumed_step,
                "image_size": self.datamodule.image_size,
            }
            report_scores(self.folder, stage, self.model, self.datamodule, logged, facts)
            if self._wants_logger():
                parts = components(self.model, self.datamodule, self.datamodule.image_size)
                experiment = self.config[stage].run.experiment
                log_scores(self.folder, self.folder.name, experiment, parts | self._settings_of_interest(), stage)

    def _facts(self) -> dict[str, Any]:
        size = self.datamodule.image_size
        with phase(f"measuring what the student costs at {size} px"):
            return run_facts(self.model, self.datamodule, size)

    def _settings_of_interest(self) -> dict[str, Any]:
        """Settings that dashboards compare runs by."""
        config = self.config[self.stage]
        return {"seed": config.seed_everything, "batch_size": config.data.init_args.get("batch_size")}

    def _wants_logger(self) -> bool:
        return self.config[self.stage].trainer.logger is not False

    def resolved_recipe(self) -> str:
        """The recipe with every default and override filled in, as YAML."""
        config = self.config["fit"].clone()
        for key in list(config.keys()):
            if key.split(".")[0] not in ("model", "data", "trainer", "run", "seed_everything"):
                config.pop(key, None)
        config.run.overwrite = False
        return str(self._parser("fit").dump(config, skip_none=False, skip_validation=True))


def run(words: list[str]) -> None:
    """Runs `distill fit|validate|test RECIPE [--key value]`.

    Raises:
        UserError: Anything the user can mend.
    """
    stage, *rest = words
    found, overrides = split(rest)
    if found is None and not {"-h", "--help"} & set(rest):
        raise UserError(f"`distill {stage}` needs a recipe; `distill recipes` lists those that come with the package")
    recipe, moved = Path(f"{stage}.yaml"), []
    if found is not None:
        recipe, moved = found, moved_paths(found)
        rest = ["--config", str(recipe), *words_for(moved), *overrides]
    with quiet():
        try:
            cli = RecipeCLI(recipe, [stage, *rest])
            if cli.settings.seeds is not None:
                run_each(cli, rest, run)
        except UserError as error:
            raise explain_missing(error, moved) from None
        except SystemExit as ending:
            if isinstance(ending.__context__, KeyboardInterrupt):  # which the trainer turns into an exit
                raise Stopped(str(ending.__context__) or "stopped") from None
            raise
        except (argparse.ArgumentError, ValueError) as error:
            if hidden := hidden_user_error(error):
                raise explain_missing(hidden, moved) from None
            if isinstance(error, argparse.ArgumentError):
                raise explain(str(error)) from error
            raise
