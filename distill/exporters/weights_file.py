"""A run as safetensors: weights, recipe, facts and card in a folder that loads without running stored code."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from torch import nn

from distill.errors import UserError
from distill.exporters.shared_recipe import shared_recipe
from distill.files import write_json, write_text
from distill.recipe.compose import as_yaml
from distill.recipe.untrusted import checked
from distill.runs.folder import RunFolder
from distill.runs.model_folder import ModelFolder
from distill.weights import write_weights

FORMAT = 1


def write_model(
    model: ModelFolder,
    run: RunFolder,
    network: nn.Module,
    class_names: Sequence[str],
    card: str,
    metadata: Mapping[str, object],
) -> None:
    """Writes what others need of a run; see `ModelFolder` for the files.

    Args:
        model: The folder, which exists.
        run: Of its recipe and summary, what is not private is copied.
        network: The task with its weights, without its teacher; of a distillation the student.
        class_names: In label order; none of a student.
        card: The model card; see `distill.report.model_card`.
        metadata: Of the weights file, as that of a student has it.

    Raises:
        UserError: The model is built of components that are not of this project, or the place cannot be written.
    """
    recipe = shared_recipe(run.read_recipe())
    checked(recipe, f"the recipe of {run}")  # or nobody could load it
    facts = run.read_summary()[0] if run.summary.is_file() else {}
    write_weights(network, model.weights, metadata)
    write_text(model.recipe, as_yaml(recipe))
    write_json(
        model.config,
        {
            "library_name": "distill",
            "format": FORMAT,
            "version": version("distill-rs"),
            "class_names": list(class_names),
            "facts": facts,
        },
    )
    write_text(model.card, card)


def require_shareable(run: RunFolder) -> None:
    """Refuses a run that others could not load, before anything is computed.

    Raises:
        UserError: See `write_model`.
    """
    try:
        checked(shared_recipe(run.read_recipe()), f"the recipe of {run}")
    except UserError as error:
        raise UserError(f"{run} cannot be shared: {error}") from error
