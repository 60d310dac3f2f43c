"""Times several models on a machine that others use too: in turns, so that a busy moment slows all of them.

A machine slows down and recovers within seconds, and two models that are timed one after the other meet different
moments of it. Here all models take short turns, round after round. What is estimated first is how the models compare
within rounds, and only then how long they take.
"""

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

_SECONDS = 1.5  # of passes for each model, at once; more are added until the times are precise
_MOST = 6.0  # seconds of passes for each model
_PRECISE = 0.02
_LEAST = 5  # turns of each model by default, however long they take
_TURN = 0.02  # seconds of passes in one turn, of which there is at least one
_QUIET = 10  # a tenth of the rounds counts as quiet
_SWEEPS = 10  # of the alternation, which two or three end
_ERROR = math.pi / 2  # standard error of a median of normal values, in mean absolute deviations over sqrt(n)

Name = TypeVar("Name")


@dataclass(frozen=True)
class Turns(Generic[Name]):
    """Times of models that took turns.

    Attributes:
        seconds: Of one pass of each model, in the quiet rounds.
        rounds: How many there were. A slow model takes part in the first ones only.
        error: The standard error of how a model's time relates to the others', as a fraction of it, at most.
        slowdown: How many times longer a pass took in half of the rounds than in the quiet ones.
    """

    seconds: dict[Name, float]
    rounds: int
    error: float
    slowdown: float


def estimated_seconds(passes: Mapping[Name, float]) -> float:
    """How long `take_turns` takes on a quiet machine, by the seconds of one pass of each model."""
    return sum(max(_SECONDS, _LEAST * seconds) for seconds in passes.values())


def take_turns(passes: Mapping[Name, Callable[[], float]], least: int = _LEAST) -> Turns[Name]:
    """Times models in turns.

    In each round every model that has not had enough time runs for a moment, in an order that varies. The time of a
    model in a round is the median of its passes there. It is taken for the product of how slow the model is and how
    slow the machine was in that round; both are found in turn as medians over the rounds and over the models (Tukey's
    median polish, of the logarithms). The time of a model is that product for a quiet round, the lowest tenth of them.

    A model has passes for 1.5 seconds and `least` rounds at least. Where the times are not precise to 2 % after that,
    all get more, up to 6 seconds.

    Args:
        passes: By the name of the model, one at least, a function that runs one pass and returns its seconds. First
            passes of a process are slow, so call it before.
        least: Rounds of each model, however long they take.
    """
    rounds: list[dict[Name, float]] = []  # logarithms of seconds
    spent = dict.fromkeys(passes, 0.0)
    order = random.Random(0)  # not the global one, which is the user's
    enough = 0.0
    while True:
        enough += _SECONDS
        while due := [name for name in passes if len(rounds) < least or spent[name] < enough]:
            order.shuffle(due)
            times = {name: _turn(passes[name]) for name in due}
            rounds.append({name: math.log(statistics.median(each[1:] or each)) for name, each in times.items()})
            for name, each in times.items():
                spent[name] += sum(each)
        turns = compared(rounds)
        if turns.error <= _PRECISE or enough >= _MOST:
            return turns


def _turn(run: Callable[[], float]) -> list[float]:
    """Seconds of the passes of one turn. Of several, the first finds the caches full of another model."""
    seconds: list[float] = []
    while sum(seconds) < _TURN:
        seconds.append(run())
    return seconds


def compared(rounds: Sequence[Mapping[Name, float]]) -> Turns[Name]:
    """Relative times of models, and their times in a quiet round, as `take_turns` describes.

    Args:
        rounds: One at least: by the name of each model that took part, the logarithm of its seconds.
    """
    fullest = [len(one) == max(map(len, rounds)) for one in rounds]
    models, slowness = _polished(rounds, fullest)
    # Of the fullest rounds alone: a model that runs by itself finds the caches full of its own.
    shared = [slow for slow, full in zip(slowness, fullest, strict=True) if full]
    quiet = sorted(shared)[len(shared) // _QUIET]
    errors = []
    for name, model in models.items():
        rest = [one[name] - model - slow for one, slow in zip(rounds, slowness, strict=True) if name in one]
        errors.append(_ERROR * statistics.fmean(map(abs, rest)) / math.sqrt(len(rest)))
    return Turns(
        {name: math.exp(model + quiet) for name, model in models.items()},
        len(rounds),
        max(errors),
        math.exp(statistics.median(shared) - quiet),
    )


def _polished(rounds: Sequence[Mapping[Name, float]], fullest: Sequence[bool]) -> tuple[dict[Name, float], list[float]]:
    """How slow each model and each round is, as summands of the logarithms.

    Models begin with their medians over the fullest rounds. From equal beginnings, rounds of one model would fit it as
    it is, and where they are the most, nothing would move it again.
    """
    models: dict[Name, float] = {}
    for name in dict.fromkeys(name for one in rounds for name in one):
        own = [(one[name], full) for one, full in zip(rounds, fullest, strict=True) if name in one]
        models[name] = statistics.median([time for time, full in own if full] or [time for time, _ in own])
    slowness: list[float] = []
    for _ in range(_SWEEPS):
        slowness = [statistics.median(time - models[name] for name, time in one.items()) for one in rounds]
        for name in models:
            models[name] = statistics.median(
                one[name] - slow for one, slow in zip(rounds, slowness, strict=True) if name in one
            )
    return models, slowness
