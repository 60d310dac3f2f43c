"""What a machine with a CUDA GPU is asked first: does it work, and how fast is it? One bounded command, no network.

    python benchmarks/gpu.py --out gpu                   # about 12 minutes
    python benchmarks/gpu.py --out gpu --minutes 5       # what matters most, as far as it goes
    python benchmarks/gpu.py --out gpu --only tests scan

Stages, what matters most first: the GPU tests; a distillation from SAM ViT-B in bfloat16, with a live teacher, then
the cache, then with stored targets; a fine-tuning under Mask R-CNN in bfloat16 and in float32; the scan against
mamba-ssm, where that is installed; the costs of the students. Images are synthetic scenes, and weights random, the
teacher's too: times are those of a real run, scores mean nothing.

Each stage is a process of its own with a limit. After each, OUT/results.jsonl gets a line and OUT/gpu.md, a section for
docs/kernels.md, is written again, so that what was measured survives whatever comes after. Logs are in OUT/*.log.
Exit code: 0 if every stage that ran held, 1 if one failed or ran out of time, 2 without a GPU.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
SHORTEST = 15  # seconds that are left, below which no stage begins
STEPS = 40
COMMON = [
    "--data.batch_size=8", "--data.num_workers=8", f"--trainer.max_steps={STEPS}",
    f"--trainer.val_check_interval={STEPS}", "--trainer.check_val_every_n_epoch=null",
    "--trainer.limit_val_batches=1", "--trainer.accelerator=gpu",
]  # fmt: skip
DISTILLATION = [
    "rs4d_small", "--model.teacher.pretrained=false", "--model.target_dtype=float16", "--data.views=1",
    "--trainer.precision=bf16-mixed", *COMMON,
]  # fmt: skip
FINE_TUNING = [  # another data module first: with it goes what was set of the recipe's
    "finetune/mask_rcnn", "--data=distill.data.CocoInstances", "--model.student.variant=small",
    "--model.student.image_size=512", "--data.image_size=512", *COMMON,
]  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """Something to run.

    Args:
        name: Of the log, and for `--only`.
        title: In the table.
        words: What follows the interpreter on its command line.
        seconds: Its limit.
        shows: A pattern of lines of its output that the section quotes; its last match, or all of them with `tables`.
        tables: Whether the whole output is quoted.
        after: The stage without which it makes no sense.
    """

    name: str
    title: str
    words: Sequence[str]
    seconds: float
    shows: str = r"."
    tables: bool = False
    after: str | None = None


@dataclass
class Result:
    """How a stage went; `held` is None where it did not run."""

    name: str
    title: str
    command: str
    held: bool | None
    seconds: float
    said: str
    quoted: list[str] = field(default_factory=list)


def stages(out: Path) -> list[Stage]:
    """All stages, what matters most first."""
    labels, images = out / "scenes" / "train" / "annotations.json", out / "scenes" / "train" / "images"
    scan, students = (str(ROOT / "benchmarks" / name) for name in ("scan.py", "student_costs.py"))
    cache, pace, tests = str(out / "cache"), r"^(step \d+/\d+|estimate:) .*", r"\d+ (passed|failed|skipped).*"
    distil = [*DISTILLATION, f"--data.root={images}"]
    tune = list(FINE_TUNING)
    for split in ("train", "val"):
        tune += [f"--data.{split}_images={images}", f"--data.{split}_annotations={labels}"]

    def fit(name: str, *words: str) -> list[str]:
        return ["-m", "distill", "fit", *words, f"--run.dir={out / name}", "--run.overwrite=true"]

    bfloat16 = fit("bfloat16", *tune, "--trainer.precision=bf16-mixed")
    stored = fit("cached", *distil, f"--model.cache.root={cache}")
    make_cache = ["-m", "distill", "cache", *distil, "--out", cache]
    return [
        Stage("tests", "GPU tests", ["-m", "pytest", "tests/gpu", "-n", "4", "-q"], 180, tests),
        Stage("live", "distillation, live teacher", fit("live", *distil), 120, pace),
        Stage("cache", "the teacher's targets stored", make_cache, 90, r" s a view"),
        Stage("cached", "distillation, stored targets", stored, 90, pace, after="cache"),
        Stage("bfloat16", "fine-tuning, bfloat16", bfloat16, 90, pace),
        Stage("float32", "fine-tuning, float32", fit("float32", *tune, "--trainer.precision=32-true"), 90, pace),
        Stage("scan", "the scan against mamba-ssm", [scan, "--device", "cuda", "--peers"], 120, tables=True),
        Stage("students", "what students cost", [students, "--gpu-only", "--sizes", "512", "1024"], 150, tables=True),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of logs, results and the section")
    parser.add_argument("--minutes", type=float, default=12, help="after which no stage goes on")
    parser.add_argument("--only", nargs="+", metavar="STAGE", help="these alone")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    known = [stage.name for stage in stages(out)]
    if wrong := [name for name in arguments.only or () if name not in known]:
        parser.error(f"--only {wrong[0]}: there are {', '.join(known)}")
    if not torch.cuda.is_available():
        print(f"benchmarks/gpu.py: PyTorch {torch.__version__} finds no CUDA GPU; nothing was run", file=sys.stderr)
        return 2
    chosen = [stage for stage in stages(out) if stage.name in (arguments.only or known)]
    write_images(out / "scenes")
    results = run_all(chosen, out, machine(), time.monotonic() + 60 * arguments.minutes)
    return 0 if all(result.held is not False for result in results) else 1


def write_images(folder: Path) -> None:
    """Scenes with labels, large enough for the distillation; not drawn again."""
    from distill.synthetic.scenes import write_scenes

    if not (folder / "train" / "annotations.json").is_file():
        write_scenes(folder, "train", 32, 1024, seed=0)


def run_all(chosen: Sequence[Stage], out: Path, where: Sequence[str], deadline: float) -> list[Result]:
    """Runs stages one after the other and writes what is known after each.

    Args:
        chosen: The stages.
        out: The folder.
        where: Lines about the machine.
        deadline: On the clock of `time.monotonic`.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.jsonl").write_text("", encoding="utf-8")
    results: list[Result] = []
    for stage in chosen:
        left = deadline - time.monotonic()
        failed = {result.name for result in results if not result.held}
        if stage.after in failed:
            result = skipped(stage, f"not run: it needs the stage {stage.after}")
        elif left < SHORTEST:
            result = skipped(stage, "not run: no time is left")
        else:
            result = run_stage(stage, out, min(stage.seconds, left))
        results.append(result)
        with (out / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        (out / "gpu.md").write_text(section(results, where), encoding="utf-8")
        print(f"{result.name}: {verdict(result)}, {result.seconds:.0f} s. {result.said}", flush=True)
    return results


def skipped(stage: Stage, why: str) -> Result:
    return Result(stage.name, stage.title, shown(stage), None, 0.0, why)


def run_stage(stage: Stage, out: Path, limit: float) -> Result:
    """Runs one stage; at its limit, it and the processes that it started are killed."""
    log, start = out / f"{stage.name}.log", time.monotonic()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONUNBUFFERED": "1",
        "WANDB_MODE": "disabled",
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "150",
    }
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *stage.words], cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True
        )
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = None
    seconds = time.monotonic() - start
    lines = [line.rstrip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    matching = [line.strip() for line in lines if re.search(stage.shows, line)]
    if code == 0:
        said = "" if stage.tables else " ".join(matching[-2:])
    else:
        said = (
            f"{'stopped at its limit' if code is None else f'exit code {code}'}: {lines[-1] if lines else 'no output'}"
        )
    return Result(stage.name, stage.title, shown(stage), code == 0, seconds, said, lines if stage.tables else [])


def shown(stage: Stage) -> str:
    """The command, as one types it at the root of the project."""
    words = [os.path.relpath(word, ROOT) if Path(word).is_absolute() else word for word in stage.words]
    return " ".join(["python", *words])


def verdict(result: Result) -> str:
    return {None: "not run", True: "held", False: "failed"}[result.held]


def machine() -> list[str]:
    """The card, its driver, and the versions that matter."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        card = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        card = torch.cuda.get_device_name()
    packages = ("torch", "triton", "torchvision", "mamba-ssm", "causal-conv1d")
    return [card, f"CUDA {torch.version.cuda}", *(f"{name} {installed(name)}" for name in packages)]


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def section(results: Sequence[Result], where: Sequence[str]) -> str:
    """What goes into the documentation."""
    lines = [
        "## Results on a GPU",
        "",
        "`python benchmarks/gpu.py --out gpu` on synthetic scenes, every weight random, the teacher's too.",
        f"{'; '.join(where)}.",
        "",
        "| stage | result | seconds | its last lines |",
        "|---|---|---:|---|",
    ]
    for one in results:
        said = one.said.replace("|", "\\|")
        lines.append(f"| {one.title} | {verdict(one)} | {one.seconds:.0f} | {said} |")
    for one in results:
        if one.quoted:
            lines += ["", f"{one.title}: `{one.command}`", "", "```", *one.quoted, "```"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
