"""Which of several processes that train together this one is."""


def is_rank_zero() -> bool:
    """Whether this is the one process that prints and writes reports.

    Lightning sets the attribute on import, and again when it starts processes.
    """
    from pytorch_lightning.utilities import rank_zero_only  # takes seconds, which some verbs need not wait for

    return bool(rank_zero_only.rank == 0)  # type: ignore[attr-defined]
