"""The cost of each part of a model in one pass: time or multiply-adds."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from distill.replaced import replaced

Meter = Callable[[], float]
Method = Callable[..., Any]


class Parts:
    """Parts of a model that are measured apart.

    Args:
        methods: By the name of each part the method of an object that computes it. None calls another.
        rest: The part that everything between them counts to; it may be one of them.

    Attributes:
        names: Of the parts, `rest` among them.
    """

    def __init__(self, methods: Mapping[str, Method], rest: str) -> None:
        self.methods, self.rest = dict(methods), rest
        self.names = tuple(dict.fromkeys([*methods, rest]))

    def measure(self, run: Callable[[], object], meter: Meter = time.perf_counter) -> dict[str, float]:
        """The amount that each part adds to a meter in one run: seconds, or multiply-adds.

        Args:
            run: Calls the model once.
            meter: Tells how much there was so far.
        """
        spent = dict.fromkeys(self.names, 0.0)
        with ExitStack() as stack:
            for name, method in self.methods.items():
                stack.enter_context(_metered(method, name, spent, meter))
            start = meter()
            run()
            spent[self.rest] += meter() - start - sum(spent.values())
        return spent


def shared_out(total: float, passes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """A total, shared out among parts as in the median pass.

    Args:
        total: Of all parts.
        passes: What each part took in each pass.
    """
    shares = {
        part: statistics.median(one[part] / max(sum(one.values()), 1e-12) for one in passes) for part in passes[0]
    }
    whole = sum(shares.values()) or 1.0
    return {part: total * share / whole for part, share in shares.items()}


def _metered(method: Method, name: str, spent: dict[str, float], meter: Meter) -> AbstractContextManager[None]:
    def measured(call: Method, *args: Any, **kwargs: Any) -> Any:
        start = meter()
        result = call(*args, **kwargs)
        spent[name] += meter() - start
        return result

    return replaced(method, measured)
