"""Whether several processes train together, and which of them this one is."""

import os


def is_rank_zero() -> bool:
    """Whether this is the one process that prints and writes reports.

    Lightning sets the attribute on import, and again when it starts processes.
    """
    try:
        from pytorch_lightning.utilities import rank_zero_only  # takes seconds, which some verbs need not wait for
    except ModuleNotFoundError:  # where exported files run, and nothing trains
        return True

    return bool(rank_zero_only.rank == 0)  # type: ignore[attr-defined]


def trains_with_others() -> bool:
    """Whether this is one of several processes that train together, which torchrun, srun or Lightning started."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size() > 1
    return int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_STEP_NUM_TASKS") or 1) > 1
