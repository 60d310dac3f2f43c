"""The results of `distill compare --measure`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Measured:
    """Costs of all models of a comparison, taken in turns in one process.

    Attributes:
        machine: `cpu`, `threads`, `gpus` and `torch`, as environment.json has them.
        rounds: How often each model was timed.
        costs: `cpu_ms`, `gpu_ms` and `memory_mb`, those that could be taken, by run folder. Those of a distillation's
            teacher are called `teacher_cpu_ms` and so on.
    """

    machine: dict[str, Any]
    rounds: int
    costs: dict[Path, dict[str, float]]
