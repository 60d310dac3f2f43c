"""The tables and the goal of `detector_costs.py`."""

import math
from collections.abc import Sequence
from typing import Any

from detector_costs_models import GOAL, REFERENCES
from detector_costs_parts import PARTS
from measuring import Bar, number
from student_costs_report import markdown

from distill.evaluation.parts import shared_out
from distill.evaluation.turns import compared

TIMES_FASTER = 10  # than SAM ViT-B with the usual head
_GOAL_SIZE = 1024


def report(names: Sequence[str], kept: dict[str, Any]) -> str:
    """The page: times, then multiply-adds, of those that were measured; the fastest last."""
    conditions = kept["conditions"]
    seconds = seconds_by_part(kept)
    total = {name: sum(parts.values()) for name, parts in seconds.items()}
    timed = sorted((name for name in names if name in total), key=lambda name: -total[name])
    references = [name for name in REFERENCES if name in timed]
    kind = "seconds of the processor" if conditions["cpu_time"] else "times"
    facts = kept["facts"]
    lines = [
        [
            name,
            *(number(1000 * seconds[name][part]) for part in PARTS),
            number(1000 * total[name]),
            *(number(total[reference] / total[name]) for reference in references),
            number(facts[name]["megabytes"]),
        ]
        for name in timed
    ]
    faster = [f"times the speed of {reference}" for reference in references]
    counts = [
        [
            name,
            number(facts[name]["parameters"] / 1e6),
            *(number(facts[name]["macs"][part] / 1e9) for part in PARTS),
            number(sum(facts[name]["macs"].values()) / 1e9),
        ]
        for name in sorted(names, key=lambda name: -sum(facts[name]["macs"].values()))
    ]
    return "\n".join(
        [
            f"{conditions['machine']}, {conditions['size']} px, float32, threads: {conditions['threads']}, {kind} of "
            f"{len(kept['rounds'])} rounds, {conditions['detections']} instances.",
            "",
            *markdown(["ms of", *PARTS, "all", *faster, "memory / MB"], lines, left=1),
            "",
            *markdown(["10⁹ multiply-adds of", "parameters / M", *PARTS, "all"], counts, left=1),
            "",
        ]
    )


def seconds_by_part(kept: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Seconds of each part of each detector in a quiet round: its time then, shared out as in the median round."""
    rounds = [{name: sum(parts.values()) for name, parts in one.items()} for one in kept["rounds"]]
    if not rounds:
        return {}
    quiet = compared([{name: math.log(total) for name, total in one.items()} for one in rounds]).seconds
    found = {}
    for name, total in quiet.items():
        found[name] = shared_out(total, [one[name] for one in kept["rounds"] if name in one])
    return found


def goals(kept: dict[str, Any]) -> list[Bar]:
    """How much faster the light detector is than SAM's, in each form of SAM that was measured."""
    total = {name: sum(parts.values()) for name, parts in seconds_by_part(kept).items()}
    if kept["conditions"]["size"] != _GOAL_SIZE or GOAL not in total:
        return []
    return [
        Bar(f"{GOAL}: time of {reference}", total[reference] / total[GOAL], TIMES_FASTER)
        for reference in REFERENCES
        if reference in total
    ]
