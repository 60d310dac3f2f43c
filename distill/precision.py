"""Which precisions of the trainer the tasks take."""

from typing import Any

from distill.errors import UserError


def require_mixed_or_full(trainer: Any, task: str) -> None:
    """Refuses a trainer that casts all weights to half or to double precision.

    Args:
        trainer: A Lightning trainer.
        task: What is trained, for the message.

    Raises:
        UserError: `trainer.precision` is one of the "true" ones other than float32.
    """
    precision = str(trainer.precision)
    if precision in ("32-true", "32", "16-mixed", "bf16-mixed"):
        return
    raise UserError(
        f"trainer.precision is {precision!r}, which casts all weights; {task} computes parts of itself in float32 and "
        "takes 32-true, 16-mixed and bf16-mixed"
    )
