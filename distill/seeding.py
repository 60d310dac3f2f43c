"""The seed of a run, and randomness as a function of it and the step alone, so that a resumed run repeats it."""

import os

import pytorch_lightning as pl
import torch


def run_seed() -> int:
    """The recipe's `seed_everything`, as Lightning leaves it in the environment; 0 outside of a run."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


def seed_step(module: pl.LightningModule, batch_idx: int) -> None:
    """Seeds PyTorch for one training step. Call it from `on_train_batch_start`.

    Checkpoints hold no random states. Without this, whatever drew before the step (calibration, a validation, the data
    of another epoch) would change what the step draws.
    """
    torch.manual_seed(step_seed(run_seed(), module.trainer.global_step, batch_idx, module.global_rank))


def step_seed(seed: int, step: int, batch_idx: int, rank: int) -> int:
    """The seed of a training step.

    Args:
        seed: Of the run.
        step: Optimizer steps before it.
        batch_idx: Number of the batch in its epoch.
        rank: Of the process.
    """
    return hash((seed, step, batch_idx, rank)) % 2**63
