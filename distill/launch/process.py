"""A run restores the state of the process that it was started from, and ends it only by an exception."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from distill.errors import Preempted, Stopped
from distill.launch.quiet import quiet
from distill.training.allocator import keep_freed_memory, return_freed_memory

_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")  # which `seed_everything` sets
_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # whose handlers the trainer changes


@contextmanager
def contained() -> Iterator[None]:
    """Restores the state of the process that a run inside changes.

    Environment, signal handlers, warning filters and the treatment of denormal numbers are restored; random generators
    are not.

    Raises:
        Stopped: The user stopped the run.
    """
    before = {name: os.environ.get(name) for name in _VARIABLES}
    in_main_thread = threading.current_thread() is threading.main_thread()
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in _SIGNALS if in_main_thread}
    try:
        with quiet(), denormals_flushed():
            yield
    except KeyboardInterrupt as error:
        raise Stopped(str(error) or "stopped") from None
    except SIGTERMException:  # of the trainer's handler, before the first step; an exit with code 0
        raise Preempted("stopped by SIGTERM before the first step") from None
    except SystemExit as ending:
        if isinstance(ending.__context__, KeyboardInterrupt):  # which the trainer turns into an exit
            raise Stopped(str(ending.__context__) or "stopped") from None
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Flushes denormal numbers (below 1.2e-38) to 0 inside the block, because CPUs compute them slowly.

    Gradients of a student that has learned something have many of them, so that its steps would become slower as
    training goes on. It holds in the calling thread and in those that are started inside.
    """
    before = torch.tensor(1e-40).item() == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@contextmanager
def memory_kept(trainer: Any) -> Iterator[None]:
    """Keeps freed memory in the process inside the block, where that makes steps on a CPU faster.

    Args:
        trainer: The recipe's group.
    """
    on_cpu = trainer.accelerator == "cpu" or not torch.cuda.is_available()
    kept = on_cpu and keep_freed_memory()
    try:
        yield
    finally:
        if kept:
            return_freed_memory()
