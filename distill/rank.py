"""Which of several processes that train together this one is."""

from pytorch_lightning.utilities import rank_zero_only


def is_rank_zero() -> bool:
    """Whether this is the one process that prints and writes reports.

    Lightning sets the attribute on import, and again when it starts processes.
    """
    return bool(rank_zero_only.rank == 0)  # type: ignore[attr-defined]
