"""From a recipe and what overrides it to a validated recipe with every default filled in, and to what it describes."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pkgutil import resolve_name
from typing import Any, Self, Union

import pytorch_lightning as pl
from jsonargparse import ActionConfigFile, Namespace
from pytorch_lightning.cli import LightningArgumentParser

from distill.data.checks import valid_seed
from distill.errors import UserError
from distill.launch.cached_teacher import with_cached_teacher
from distill.launch.initial_weights import without_initial_weights
from distill.phases import phase
from distill.recipe.check import GROUPS, TRAINER_DEFAULTS
from distill.recipe.command_line import split
from distill.recipe.compose import Recipe
from distill.recipe.errors import explain, hidden_user_error
from distill.runs.free_folder import run_folder
from distill.runs.moved import explain_missing, moved_paths, words_for
from distill.runs.settings import RunSettings

# Arguments of the trainer's methods that are built from the recipe.
_BUILT = {"model", "train_dataloaders", "val_dataloaders", "dataloaders", "datamodule"}


@dataclass(frozen=True)
class Built:
    """The objects that a recipe describes.

    Attributes:
        task: The Lightning module.
        data: The data module.
        trainer: Arguments of the trainer, its callbacks built.
        arguments: Arguments of the trainer's method.
    """

    task: Any
    data: Any
    trainer: dict[str, Any]
    arguments: dict[str, Any]


class ParsedRecipe:
    """A parsed recipe; nothing of it is built.

    Args:
        stage: "fit", "validate" or "test".
        recipe: What somebody named.
        words: Overrides as `distill.recipe.command_line.split` gives them, pairs `--key value`.

    Attributes:
        config: The recipe with every default and override filled in: model, data, trainer, run, seed_everything.
        folder: Where the run writes.

    Raises:
        UserError: A key, a class or a value that cannot be.
    """

    def __init__(self, stage: str, recipe: Recipe, words: Sequence[str] = ()) -> None:
        self.stage = stage
        self.recipe = recipe
        self.words = list(words)
        self._moved = moved_paths(recipe.path)
        self._parser, self._method_keys = recipe_parser(stage)
        try:
            with self.explained():
                self.config: Any = self._parser.parse_args([*recipe.words, *words_for(self._moved), *self.words])
        except BaseException:
            recipe_parser.cache_clear()  # it may hold what it had read, such as --print_config
            raise
        if self.config.seed_everything is False:
            raise UserError("seed_everything is false; give a number, or true for a random one that is written down")
        valid_seed("seed_everything", self.config.seed_everything)
        self.folder = run_folder(recipe, self.words, self.config.run.dir)
        self.config.run.dir = str(self.folder)
        self.config.run.experiment = self.config.run.experiment or self.folder.name

    @classmethod
    def read(cls, stage: str, words: Sequence[str]) -> Self:
        """Finds, composes and parses the arguments of `distill fit`: recipes, then pairs `--key value`.

        Raises:
            UserError: See the class.
        """
        recipe, overrides = split(words)
        assert recipe is not None, "the first word names a recipe"
        return cls(stage, recipe, overrides)

    @property
    def settings(self) -> Any:
        """The `run` group."""
        return self.config.run

    @property
    def task_class(self) -> Any:
        """The class of the task that the recipe names."""
        return resolve_name(self.config.model.class_path)

    @property
    def wants_logger(self) -> bool:
        """Whether metrics are written."""
        return self.config.trainer.logger is not False

    def again(self, stage: str, *words: str) -> "ParsedRecipe":
        """The same recipe with further overrides."""
        return ParsedRecipe(stage, self.recipe, [*self.words, *words])

    def text(self) -> str:
        """The resolved recipe as YAML, as a run folder holds it."""
        config = self.config.clone()
        for key in list(config.keys()):
            if key.split(".")[0] not in GROUPS:
                config.pop(key, None)
        config.run.overwrite = False
        return str(self._parser.dump(config, skip_none=False, skip_validation=True))

    def build(self, weights_stored: bool = False, data: Any = None) -> Built:
        """Seeds all random numbers, and builds model, data and callbacks.

        Args:
            weights_stored: Whether a checkpoint will be loaded, so that files of initial weights are not needed.
            data: The data module, if `build_data` has built it.

        Raises:
            UserError: A component refuses its arguments.
        """
        self._seed()
        config = self.config.clone()
        if data is not None:
            config.data = None
        config.model = with_cached_teacher(config.model)
        if weights_stored:
            config.model = without_initial_weights(config.model)
        with phase("building the model"), self.explained():
            built = self._parser.instantiate_classes(config)
        arguments = {key: built[key] for key in self._method_keys}
        return Built(built.model, built.data if data is None else data, dict(vars(built.trainer)), arguments)

    def build_data(self) -> Any:
        """Seeds all random numbers, and builds the data module alone.

        Raises:
            UserError: It refuses its arguments.
        """
        self._seed()
        with self.explained():
            return self._parser.instantiate_classes(Namespace(data=self.config.clone().data)).data

    def _seed(self) -> None:
        given = None if self.config.seed_everything is True else self.config.seed_everything
        self.config.seed_everything = pl.seed_everything(given, workers=True)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns errors of the parser and of components into one line each."""
        try:
            yield
        except UserError as error:
            raise explain_missing(error, self._moved) from None
        except (argparse.ArgumentError, ValueError) as error:
            if hidden := hidden_user_error(error):
                raise explain_missing(hidden, self._moved) from None
            if isinstance(error, argparse.ArgumentError):
                raise explain(str(error)) from error
            raise


@cache
def recipe_parser(stage: str) -> tuple[LightningArgumentParser, list[str]]:
    """The parser of recipes, and which keys are arguments of the trainer's method.

    Built once, since that takes a third of the time of parsing.

    Args:
        stage: "fit", "validate" or "test".
    """
    parser = LightningArgumentParser(
        prog=f"distill {stage}",
        description="Runs a recipe.",
        exit_on_error=False,
        allow_abbrev=False,  # a misspelt key must not pass as the abbreviation of another one
        dump_header=[f"pytorch_lightning=={pl.__version__}"],
    )
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="a recipe file, or JSON")
    seed_type = Union[bool, int]  # noqa: UP007  # of which the parser tries the first one first
    parser.add_argument("--seed_everything", type=seed_type, default=0, help="seed of the run; true for a random one")
    parser.add_lightning_class_args(pl.Trainer, "trainer")
    parser.set_defaults({f"trainer.{key}": value for key, value in TRAINER_DEFAULTS.items()})
    parser.add_lightning_class_args(pl.LightningModule, "model", subclass_mode=True)
    parser.add_lightning_class_args(pl.LightningDataModule, "data", subclass_mode=True)
    parser.add_class_arguments(RunSettings, "run")
    return parser, parser.add_method_arguments(pl.Trainer, stage, skip=set(_BUILT))


def arguments_of(config: Namespace) -> Namespace:
    """The `init_args` of a group."""
    found: Namespace = config.get("init_args", Namespace())
    return found
