"""timm's models that take images of some sizes alone, such as those with windows of attention."""

from typing import Any

import torch


def refuses_size(model: Any, error: Exception) -> bool:
    """Whether an error of a forward pass says that the model does not take images of that size.

    Most of these models assert it. Others, of one size, fail where the shapes of two tensors differ. While a model is
    exported sizes are symbols, and the exporter itself says what it lacks.

    Args:
        model: Of `timm.create_model`.
        error: An `AssertionError` or `RuntimeError`.
    """
    if torch.compiler.is_exporting() or isinstance(error, torch.OutOfMemoryError):
        return False
    return isinstance(error, AssertionError) or bool(model.pretrained_cfg["fixed_input_size"])
