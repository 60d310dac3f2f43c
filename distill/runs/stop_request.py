"""Signals that ask a run to stop, agreed on by all of its processes."""

import signal
import threading
import time
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; SLURM, containers and spot machines
_SAME = 1.0  # seconds in which a signal is taken for the same one: `timeout`, `uv run` and terminals send two


class StopRequest:
    """Whether the run was asked to stop; all processes learn it at the same step.

    A handler only notes the signal, and a step asks. Of several processes each has a signal of its own, or none: what
    they noted is reduced on a gloo group beside that of the gradients, and the result of one step is read in the next.
    So no process waits for a device, and a slow network has a step's time for its few bytes.

    A second signal, after a second, stops the process at once.
    """

    def __init__(self) -> None:
        self._noted = self._agreed = 0
        self._since = 0.0
        self._handlers: dict[int, Any] = {}
        self._group: Any = None
        self._pending: tuple[Any, torch.Tensor] | None = None

    def watch(self) -> None:
        """Installs the handlers. Of several processes each must call it, when they are connected."""
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            self._group = dist.new_group(backend="gloo")
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._note) for number in _SIGNALS}

    def poll(self) -> int:
        """The signal that all processes know of, or 0. Of several processes each must call it equally often."""
        if self._group is None:
            return self._noted
        if self._pending is not None:
            work, noted = self._pending
            work.wait()
            self._agreed = int(noted)
        noted = torch.tensor(self._noted)
        # SIGTERM is the larger number: a job queue counts for more than Ctrl-C.
        self._pending = dist.all_reduce(noted, dist.ReduceOp.MAX, self._group, async_op=True), noted
        return self._agreed

    def end(self) -> None:
        """Restores the handlers."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
        self._group = self._pending = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._noted and now - self._since > _SAME:
            # Not Lightning's handler, which talks to other processes from inside of it and may wait for ever.
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            signal.raise_signal(number)
        self._noted, self._since = max(self._noted, number), now
