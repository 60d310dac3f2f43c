"""Rows, values and curves of the example."""

import math
import random
import statistics
from collections.abc import Sequence

SEEDS = (0, 1, 2)
PERCENT = {"unit": "%", "scale": 0.01, "digits": 1}

COSTS = [
    ("params", "parameters", "parameters of the student", "M", 1e6, 2, True),
    ("macs", "multiply-adds", "multiply-adds that one pass executes", "G", 1e9, 2, True),
    ("cpu_ms", "CPU latency", "median time of one pass on the CPU", "ms", 1.0, 1, True),
    ("memory_mb", "peak memory", "weights and the most that one pass holds at once", "MB", 1.0, 0, True),
    ("size_mb", "file size", "size of student.safetensors", "MB", 1.0, 1, False),
    ("train_hours", "training time", "wall-clock time of the training", "h", 1.0, 2, True),
]


def columns(qualities: Sequence[dict], gain: dict | None) -> list[dict]:
    costs = [
        {
            "key": k,
            "name": n,
            "meaning": m,
            "unit": u,
            "scale": s,
            "digits": d,
            "better": "min",
            "group": "cost",
            "shown": t,
        }
        for k, n, m, u, s, d, t in COSTS
    ]
    return [*qualities, *([gain] if gain else []), *costs]


def quality(key: str, name: str, better: str = "max", shown: bool = True, **units: object) -> dict:
    column = {"key": key, "name": name, "meaning": f"what {name} says", "better": better, "group": "quality"}
    return column | {"shown": shown} | (units or PERCENT)


def rounded(x: float) -> float:
    return float(f"{x:.6g}")


def value(each: Sequence[float], flag: str | None = None) -> dict:
    values = [rounded(x) for x in each]
    spread = rounded(statistics.stdev(values)) if len(values) > 1 else None
    return {
        "mean": rounded(statistics.mean(values)),
        "sd": spread,
        "n": len(values),
        "min": min(values),
        "max": max(values),
        "each": [[seed, x] for seed, x in zip(SEEDS, values, strict=False)],
        "flag": flag,
    }


def gain(distilled: dict, scratch: dict, baseline: str) -> dict:
    each = [a[1] - b[1] for a, b in zip(distilled["each"], scratch["each"], strict=True)]
    found = value(each)
    half = None if found["sd"] is None else 4.3027 * found["sd"] / math.sqrt(len(each))
    ends = (
        {"low": None, "high": None}
        if half is None
        else {"low": rounded(found["mean"] - half), "high": rounded(found["mean"] + half)}
    )
    return found | ends | {"scratch": baseline}


def model_row(index: int, student: str, init: str, values: dict, **more: object) -> dict:
    folder = f"runs/nwpu/{student.split()[0].lower()}-{init}"
    row = {
        "id": f"r{index}",
        "name": f"{student} · {init}",
        "student": student,
        "init": init,
        "head": "Mask R-CNN",
        "teacher": "SAM ViT-B" if init == "distilled" else None,
        "role": "student",
        "seeds": list(SEEDS),
        "runs": [f"{folder}/seed_{seed}" for seed in SEEDS],
        "image_size": 512,
        "values": values,
        "dominated_by": [],
        "best": [],
        "notes": [],
        "commands": [
            f"distill fit recipes/nwpu.yaml --student {student.split()[0]} --run.seeds 0,1,2 --run.output {folder}",
            f"distill test {folder}",
        ],
    }
    return row | more


def costs(params: float, macs: float, cpu: float, memory: float, hours: float, flag: str | None = None) -> dict:
    numbers = {"params": params, "macs": macs, "memory_mb": memory, "size_mb": params * 4e-6}
    found = {key: value([number] * 3) for key, number in numbers.items()}
    found |= {"cpu_ms": value([cpu] * 3, flag), "train_hours": value([hours, hours * 1.02, hours * 0.98])}
    return found


def pair(row: str, scratch: str, names: Sequence[tuple[str, int]], draw: random.Random) -> dict:
    classes = []
    for name, count in names:
        before, change = 0.25 + 0.35 * draw.random(), draw.gauss(0.05, 0.05)
        classes.append(
            {
                "name": name,
                "count": count,
                "counted": "objects",
                "value": rounded(before + change),
                "scratch": rounded(before),
                "difference": rounded(change),
            }
        )
    return {"row": row, "scratch": scratch, "classes": sorted(classes, key=lambda one: -one["difference"])}


def curve(
    metric: str,
    name: str,
    ends: dict,
    better: str = "max",
    reference: float | None = None,
    hours: bool = True,
    **units: object,
) -> dict:
    lines = []
    for number, (row, (start, end)) in enumerate(ends.items()):
        draw = random.Random(number)
        step = [600 * i for i in range(1, 21)]
        mean = [
            rounded(end + (start - end) * math.exp(-s / (1500 + 300 * number)) + draw.gauss(0, 0.01 * abs(end)))
            for s in step
        ]
        lines.append(
            {
                "row": row,
                "n": 3,
                "step": step,
                "hours": [rounded(s / 9000 * (1 + number)) for s in step] if hours else None,
                "mean": mean,
                "low": [rounded(x - 0.02 * abs(end)) for x in mean],
                "high": [rounded(x + 0.02 * abs(end)) for x in mean],
            }
        )
    return {"metric": metric, "name": name, "better": better, "reference": reference, "lines": lines} | (
        units or PERCENT
    )
