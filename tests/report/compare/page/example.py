"""Example content of compare.json: two sections with three seeds, and their pictures."""

import math
import random
import statistics
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

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
        {"key": k, "name": n, "meaning": m, "unit": u, "scale": s, "digits": d, "better": "min", "group": "cost", "shown": t}
        for k, n, m, u, s, d, t in COSTS
    ]  # fmt: skip
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
        "mean": rounded(statistics.mean(values)), "sd": spread, "n": len(values), "min": min(values),
        "max": max(values), "each": [[seed, x] for seed, x in zip(SEEDS, values, strict=False)], "flag": flag,
    }  # fmt: skip


def gain(distilled: dict, scratch: dict, baseline: str) -> dict:
    each = [a[1] - b[1] for a, b in zip(distilled["each"], scratch["each"], strict=True)]
    found = value(each)
    half = None if found["sd"] is None else 4.3027 * found["sd"] / math.sqrt(len(each))
    ends = {"low": None, "high": None} if half is None else {
        "low": rounded(found["mean"] - half), "high": rounded(found["mean"] + half)}  # fmt: skip
    return found | ends | {"scratch": baseline}


def model_row(index: int, student: str, init: str, values: dict, **more: object) -> dict:
    folder = f"runs/nwpu/{student.split()[0].lower()}-{init}"
    row = {
        "id": f"r{index}", "name": f"{student} · {init}", "student": student, "init": init,
        "head": "Mask R-CNN", "teacher": "SAM ViT-B" if init == "distilled" else None, "role": "student",
        "seeds": list(SEEDS), "runs": [f"{folder}/seed_{seed}" for seed in SEEDS], "image_size": 512,
        "values": values, "dominated_by": [], "best": [], "notes": [],
        "commands": [
            f"distill fit recipes/nwpu.yaml --student {student.split()[0]} --run.seeds 0,1,2 --run.output {folder}",
            f"distill test {folder}",
        ],
    }  # fmt: skip
    return row | more


def costs(params: float, macs: float, cpu: float, memory: float, hours: float, flag: str | None = None) -> dict:
    numbers = {"params": params, "macs": macs, "memory_mb": memory, "size_mb": params * 4e-6}
    found = {key: value([number] * 3) for key, number in numbers.items()}
    found |= {"cpu_ms": value([cpu] * 3, flag), "train_hours": value([hours, hours * 1.02, hours * 0.98])}
    return found


def instances(pictures: list[dict]) -> dict:
    draw = random.Random(0)
    flag = "timed on another CPU (AMD EPYC 7543, 8 threads) than the others; distill compare --measure times all anew"

    def scores(ap: float) -> dict:
        each = [ap + draw.gauss(0, 0.006) for _ in SEEDS]
        return {
            "mask/AP": value(each),
            "box/AP": value([x + 0.031 for x in each]),
            "boundary/AP": value([x * 0.7 for x in each]),
            "mask/AP50": value([x + 0.27 for x in each]),
        }

    nothing = {"missing": "no scratch baseline: fit the same recipe without initial weights"}
    rs4d, mamba = "RS4D tiny", "VMamba tiny"
    rows = [
        model_row(0, rs4d, "scratch", scores(0.398) | costs(5.2e6, 3.1e9, 21.4, 88, 1.31) | {"gain": nothing}),
        model_row(1, rs4d, "distilled", scores(0.463) | costs(5.2e6, 3.1e9, 21.4, 88, 1.29)),
        model_row(2, mamba, "scratch", scores(0.431) | costs(22.1e6, 11.2e9, 71.8, 240, 3.4, flag) | {"gain": nothing}),
        model_row(3, mamba, "distilled", scores(0.488) | costs(22.1e6, 11.2e9, 71.8, 240, 3.5, flag)),
        model_row(4, "ConvNeXt femto", "pretrained", scores(0.442) | costs(4.9e6, 2.4e9, 26.0, 120, 0.9)),
        model_row(
            5, "SAM ViT-B", "pretrained", scores(0.521) | costs(89.7e6, 371e9, 2310.0, 1420, 4.2),
            role="teacher", name="SAM ViT-B", teacher=None,
        ),
    ]  # fmt: skip
    for distilled, scratch in ((1, 0), (3, 2)):
        first, second = rows[distilled]["values"], rows[scratch]["values"]
        first["gain"] = gain(first["mask/AP"], second["mask/AP"], f"r{scratch}")
    rows[4]["values"]["gain"] = nothing
    rows[4]["values"]["memory_mb"] = {"missing": "made by an earlier version; distill compare --measure fills it in"}
    rows[2]["dominated_by"] = ["r1", "r4"]
    rows[0]["dominated_by"] = ["r1"]
    rows[1]["best"], rows[4]["best"] = ["cpu_ms", "gain"], ["params", "macs", "train_hours"]
    rows[3]["best"] = ["mask/AP", "box/AP"]
    rows[3]["notes"] = [{"level": "red", "text": "seed 2 was scored with weights of step 9000, the others of step 12000"}]
    names = [("ship", 302), ("storage tank", 655), ("baseball diamond", 390), ("tennis court", 524), ("basketball court", 159),
             ("ground track field", 163), ("harbour", 224), ("bridge", 124), ("vehicle", 477), ("airplane", 757)]  # fmt: skip
    return {
        "id": "s0", "task": "instances", "data": "NWPU", "title": "Instance segmentation on NWPU",
        "subtitle": "130 test images · 512 px · at most 100 detections an image",
        "sentence": "Below 25 ms on the CPU, RS4D tiny · distilled is best with 46.3 % mask AP: +6.5 points over the same "
        "student from scratch (3 seeds), 89 % of the teacher's at 1/17 of its parameters.",
        "quality": "mask/AP",
        "columns": columns(
            [quality("mask/AP", "mask AP"), quality("box/AP", "box AP"), quality("boundary/AP", "boundary AP", shown=False),
             quality("mask/AP50", "mask AP50", shown=False)],
            {"key": "gain", "name": "gain over scratch", "meaning": "mask AP less that of the scratch baseline, paired by seed",
             "better": "max", "group": "gain", "shown": True} | PERCENT,
        ),
        "rows": rows,
        "notes": [
            {"level": "red", "text": "CPU latency was measured on 2 different machines; those values are marked."},
            {"level": "info", "text": "The student's costs are for one image of 512 px, without the head."},
        ],
        "pareto": {"cpu_ms": ["r1", "r3"], "params": ["r4", "r1", "r3"], "macs": ["r4", "r1", "r3"], "memory_mb": ["r1", "r3"]},
        "curves": [
            curve("val/mask/AP", "validation mask AP", {f"r{i}": (0.02, end) for i, end in enumerate((0.39, 0.455, 0.42, 0.48, 0.43))}),
            curve("train/loss", "training loss", {f"r{i}": (2.4, end) for i, end in enumerate((0.6, 0.5, 0.55, 0.45, 0.52))}, better="min", unit="", scale=1.0, digits=4),
        ],
        "classes": {
            "metric": "mask/AP", "name": "mask AP", **PERCENT,
            "pairs": [pair("r1", "r0", names, draw), pair("r3", "r2", names, draw)],
        },
        "pictures": pictures,
        "recipes": [
            {"key": "model.init_args.optim.lr", "values": {"r0": "0.001", "r1": "0.0003", "r2": "0.001", "r3": "0.0003", "r4": "0.0001"}},
            {"key": "model.init_args.student.init_args.checkpoint", "values": {"r1": "runs/rs4d/student.safetensors", "r3": "runs/vmamba/student.safetensors"}},
        ],
        "environments": [
            {"rows": ["r0", "r1", "r4", "r5"], "cpu": "Intel Xeon Gold 6338", "threads": 4, "gpus": ["NVIDIA A100-SXM4-80GB"], "python": "3.12.4", "platform": "Linux-6.8", "versions": {"torch": "2.9.1", "timm": "1.0.22", "pytorch-lightning": "2.6.1"}},
            {"rows": ["r2", "r3"], "cpu": "AMD EPYC 7543", "threads": 8, "gpus": [], "python": "3.12.4", "platform": "Linux-6.1", "versions": {"torch": "2.9.1", "timm": "1.0.22", "pytorch-lightning": "2.6.1"}},
        ],
    }  # fmt: skip


def pair(row: str, scratch: str, names: Sequence[tuple[str, int]], draw: random.Random) -> dict:
    classes = []
    for name, count in names:
        before, change = 0.25 + 0.35 * draw.random(), draw.gauss(0.05, 0.05)
        classes.append({
            "name": name, "count": count, "counted": "objects", "value": rounded(before + change), "scratch": rounded(before),
            "difference": rounded(change),
        })  # fmt: skip
    return {"row": row, "scratch": scratch, "classes": sorted(classes, key=lambda one: -one["difference"])}


def curve(metric: str, name: str, ends: dict, better: str = "max", reference: float | None = None, hours: bool = True, **units: object) -> dict:
    lines = []
    for number, (row, (start, end)) in enumerate(ends.items()):
        draw = random.Random(number)
        step = [600 * i for i in range(1, 21)]
        mean = [rounded(end + (start - end) * math.exp(-s / (1500 + 300 * number)) + draw.gauss(0, 0.01 * abs(end))) for s in step]
        lines.append({
            "row": row, "n": 3, "step": step, "hours": [rounded(s / 9000 * (1 + number)) for s in step] if hours else None, "mean": mean,
            "low": [rounded(x - 0.02 * abs(end)) for x in mean], "high": [rounded(x + 0.02 * abs(end)) for x in mean],
        })  # fmt: skip
    return {"metric": metric, "name": name, "better": better, "reference": reference, "lines": lines} | (units or PERCENT)


def distillation(pictures: list[dict]) -> dict:
    ratio = {"unit": "", "scale": 1.0, "digits": 4}
    rows = []
    for i, (student, l1, cost) in enumerate((("RS4D tiny", 0.61, (5.2e6, 3.1e9, 21.4, 88, 6.5)), ("VMamba tiny", 0.52, (22.1e6, 11.2e9, 71.8, 240, 14.2)), ("ConvNeXt femto", 0.66, (4.9e6, 2.4e9, 26.0, 120, 4.4)))):
        one = {"l1_ratio": value([l1]), "cosine": value([1.2 - l1]), **{key: {**v, "n": 1, "sd": None, "each": v["each"][:1]} for key, v in costs(*cost).items()}}
        rows.append(model_row(i, student, "distilled", one, head=None, seeds=[0], runs=[f"runs/sa1b/{i}"]))
    rows[1]["best"] = ["l1_ratio", "cosine"]
    rows[2]["dominated_by"] = []
    return {
        "id": "s1", "task": "distillation", "data": "SA-1B", "title": "Distillation on SA-1B", "subtitle": "2000 validation images",
        "sentence": "VMamba tiny comes closest to SAM ViT-B: 0.5200 of the error of the image-independent baseline.",
        "quality": "l1_ratio",
        "columns": columns([quality("l1_ratio", "l1 ratio", "min", **ratio), quality("cosine", "cosine", **ratio)], None),
        "rows": rows, "notes": [], "pareto": {"cpu_ms": ["r0", "r1"], "params": ["r2", "r0", "r1"]},
        "curves": [curve("val/l1_ratio", "validation l1 ratio", {"r0": (1.1, 0.61), "r1": (1.1, 0.52), "r2": (1.1, 0.66)}, "min", 1.0, **ratio)],
        "classes": None, "pictures": pictures, "recipes": [], "environments": [],
    }  # fmt: skip


def content(place: Path) -> dict:
    """The content, with its pictures written below `place`."""
    return {
        "format": 1, "made": "2026-11-28 11:40 UTC", "version": "0.1.0",
        "command": "distill compare runs/nwpu/* runs/sa1b/* --out runs/compare", "measured": None, "passed_over": ["runs/nwpu/data"],
        "sections": [instances(predictions(place, 4)), distillation(features(place, 3))],
    }  # fmt: skip


def scene(seed: int, side: int = 256) -> tuple[Image.Image, list[tuple[int, int, int, int]]]:
    draw = random.Random(seed)
    picture = Image.effect_noise((side, side), 22).convert("RGB")
    picture = Image.blend(picture, Image.linear_gradient("L").resize((side, side)).convert("RGB"), 0.3)
    picture = Image.blend(picture, Image.new("RGB", (side, side), (84, 98, 60)), 0.5)
    pen = ImageDraw.Draw(picture)
    boxes = []
    for _ in range(7):
        x, y = draw.randrange(10, side - 50), draw.randrange(10, side - 40)
        boxes.append((x, y, x + draw.randrange(16, 42), y + draw.randrange(10, 26)))
        pen.rectangle(boxes[-1], fill=(190, 190, 180))
    return picture, boxes


def predictions(place: Path, images: int) -> list[dict]:
    found = []
    for index in range(images):
        picture, boxes = scene(index)
        paths = {}

        def save(name: str, shown: Image.Image, index: int = index) -> str:
            path = place / f"{index}_{name}.png"
            shown.save(path)
            return str(path)

        def outlined(hits: int, colour: tuple, picture: Image.Image = picture, boxes: list = boxes) -> Image.Image:
            shown = picture.copy()
            for box in boxes[:hits]:
                ImageDraw.Draw(shown).rectangle(box, outline=colour, width=2)
            return shown

        for i in range(5):
            path = save(f"r{i}", outlined(3 + i % 5, (255, 90, 95)))
            paths[f"r{i}"] = {"parts": {"prediction": path}, "captions": {"prediction": f"{3 + i % 5} of 7 objects found"}}
        shared = {"input": save("input", picture), "truth": save("truth", outlined(7, (46, 196, 182)))}
        found.append({"name": f"images/{index:03}.jpg", "shared": shared, "rows": paths})
    return found


def features(place: Path, images: int) -> list[dict]:
    found = []
    for index in range(images):
        scene(index)[0].save(place / f"f{index}_input.png")

        def save(name: str, seed: int, index: int = index) -> str:
            draw = random.Random(seed)
            tiny = Image.new("RGB", (16, 16))
            tiny.putdata([tuple(draw.randrange(60, 220) for _ in range(3)) for _ in range(256)])
            path = place / f"f{index}_{name}.png"
            tiny.save(path)
            return str(path)

        rows = {
            f"r{i}": {"parts": {"student": save(f"r{i}_student", 10 * index + i), "error": save(f"r{i}_error", 7 + i)}, "captions": {"error": f"l1 {0.1 + i / 100:.3f}"}}
            for i in range(3)
        }  # fmt: skip
        found.append({"name": f"sa_{index}.jpg", "shared": {"input": str(place / f"f{index}_input.png"), "teacher": save("teacher", index)}, "rows": rows})
    return found
