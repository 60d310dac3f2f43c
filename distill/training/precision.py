"""Checks `trainer.precision`."""

import pytorch_lightning as pl

from distill.errors import UserError


def require_precision(trainer: pl.Trainer, float32_only: str | None) -> None:
    """Refuses a precision that casts all weights where training cannot work with it.

    Args:
        trainer: The trainer of the run.
        float32_only: The part that needs weights in float32, for the message; None if there is none.

    Raises:
        UserError: `trainer.precision` casts weights to float16, or to bfloat16 or float64 where something needs
            float32.
    """
    precision = str(trainer.precision)
    if not precision.endswith("-true") or precision == "32-true":
        return
    if precision == "16-true":
        reason = "in which the epsilon of AdamW is 0 and the first step divides by zero"
    elif float32_only is not None:
        reason = f"but {float32_only} needs weights in float32"
    else:
        return
    raise UserError(
        f"trainer.precision is {precision!r}, which casts all weights, {reason}; set it to 32-true, bf16-mixed or "
        "16-mixed"
    )
