"""The selective scan outside PyTorch: forms of it in ONNX, in onnxruntime and OpenVINO, against the native kernel.

    python benchmarks/scan_export.py                         # RS4D tiny and base at 64 x 64 tokens, one and two threads
    python benchmarks/scan_export.py base --threads 1 --tokens 1024

Every form computes h_t = exp(Δ_t A) h_{t-1} + Δ_t u_t B_t and y_t = C_t h_t of both directions from the same inputs,
at a length that the file leaves open, in float32; none divides by a decay. No time is printed of one that differs from
float64. All take turns in one process. With one thread a time is that of the processor, which other programs do not
change much; with more it is that of the clock. Loading and memory are those of a process of its own: the growth of its
peak from before the file is read until one pass is done.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scan_export_forms import FORMS, Sizes, file_of

SIZES = {"tiny": Sizes(rows=2, states=8, channels=192), "base": Sizes(rows=2, states=16, channels=512)}  # of RS4D
RUNTIMES = ("onnxruntime", "OpenVINO")
NATIVE = ("native kernel", "PyTorch")
TOLERANCE = 1e-4  # of the largest output

Inputs = dict[str, np.ndarray]
Run = Callable[[Inputs], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=list(SIZES), help="RS4D variants: tiny, base")
    parser.add_argument("--tokens", type=int, default=4096, help="length of a direction")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=list(FORMS))
    parser.add_argument("--load", nargs=3, metavar=("FILE", "RUNTIME", "INPUTS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        print(json.dumps(loading(*arguments.load)))
        return
    for variant in arguments.variants:
        with tempfile.TemporaryDirectory() as folder:
            compare(variant, arguments, Path(folder))


def compare(variant: str, arguments: argparse.Namespace, folder: Path) -> None:
    """Prints a table of one variant."""
    from measuring import Candidate, console, make_table, measure, processor

    sizes = SIZES[variant]
    inputs = draw(sizes, arguments.tokens)
    np.savez(folder / "inputs.npz", **inputs)
    wanted, updates = exact(inputs), sizes.rows * sizes.states * sizes.channels * arguments.tokens
    costs: dict[tuple[str, str], dict[str, Any]] = {}
    runs: dict[tuple[str, str], dict[int, Run]] = {NATIVE: {n: native(inputs) for n in arguments.threads}}
    for name in arguments.forms:
        file = file_of(name, sizes, folder)
        for runtime in RUNTIMES:
            child = [sys.executable, __file__, "--load", str(file), runtime, str(folder / "inputs.npz")]
            outcome = subprocess.run(child, capture_output=True, text=True, check=False)
            if outcome.returncode:
                console.print(f"{name} in {runtime}: {reason(outcome.stderr)}")
                continue
            costs[name, runtime] = json.loads(outcome.stdout.splitlines()[-1])
            runs[name, runtime] = {n: opened(file, runtime, n) for n in arguments.threads}
    errors = {
        key: float(abs(by[arguments.threads[0]](inputs) - wanted).max() / abs(wanted).max()) for key, by in runs.items()
    }
    for key in [key for key, error in errors.items() if not error < TOLERANCE]:
        console.print(f"{' in '.join(key)} is wrong by {errors[key]:.1e} of the largest output")
        del runs[key]
    seconds = {}
    for threads in arguments.threads:
        clock = time.process_time if threads == 1 else time.perf_counter
        found = measure(
            {
                key: Candidate(lambda run=by[threads]: run(inputs), threads=threads, clock=clock)
                for key, by in runs.items()
            }
        )
        seconds |= {(key, threads): value for key, value in found.items()}
    counts = [f"{n} thread{'s' * (n > 1)} / ms" for n in arguments.threads]
    title = f"One scan of RS4D {variant}: {sizes}, {arguments.tokens} tokens"
    table = make_table(
        title, "form", "in", *counts, "ns per update", "times native", "largest error", "load / s", "peak / MB"
    )
    for key in runs:
        first = seconds[key, arguments.threads[0]]
        cost = costs.get(key)
        table.add_row(
            *key,
            *(f"{seconds[key, n] * 1e3:.1f}" for n in arguments.threads),
            f"{first / updates * 1e9:.2f}",
            f"{first / seconds[NATIVE, arguments.threads[0]]:.1f}",
            f"{errors[key]:.0e}",
            *((f"{cost['load']:.2f}", f"{cost['peak']:.0f}") if cost else ("-", "-")),
        )
    console.print(table)
    console.print(f"{processor()}; {', '.join(versions())}")


def draw(sizes: Sizes, tokens: int) -> Inputs:
    """Random inputs; Δ and A as Mamba's initialisation has them, times up to 4."""
    random = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape, dtype=np.float32)

    rows, states, channels = sizes.rows, sizes.states, sizes.channels
    delta = np.exp(random.uniform(np.log(1e-3), np.log(0.4), (tokens, 1, 1, channels))).astype(np.float32)
    delta = np.repeat(delta, rows, axis=1)
    decay = np.repeat(-np.arange(1, states + 1, dtype=np.float32)[None, :, None], channels, axis=2)
    return {
        "delta": delta,
        "x": delta * normal(tokens, rows, 1, channels),
        "B": normal(tokens, rows, states, 1),
        "C": normal(tokens, rows, 1, states),
        "A": np.repeat(decay, rows, axis=0),
    }


def exact(inputs: Inputs) -> np.ndarray:
    """The definition in float64."""
    delta, x, B, C, A = (inputs[name].astype(np.float64) for name in ("delta", "x", "B", "C", "A"))
    state, outputs = np.zeros_like(A), []
    for step in range(len(delta)):
        state = np.exp(delta[step] * A) * state + x[step] * B[step]
        outputs.append(C[step] @ state)
    return np.stack(outputs)


def native(inputs: Inputs) -> Run:
    """PyTorch with the fastest kernel of this machine."""
    import torch

    from students.scan.interface import run_scan
    from students.scan.problem import Scan

    delta, x, B, C, A = (torch.from_numpy(inputs[name]) for name in ("delta", "x", "B", "C", "A"))
    scan = Scan(  # each direction a row of the batch: they have one A
        u=(x / delta).transpose(0, 1).transpose(1, 2),
        delta=delta.transpose(0, 1).transpose(1, 2),
        delta_weight=None,
        A=A[:1].mT,
        B=B.squeeze(3).transpose(0, 1)[:, None, None],
        C=C.squeeze(2).transpose(0, 1)[:, None, None],
        D=None,
        z=None,
        delta_bias=None,
        initial_state=None,
        order=None,
        delta_softplus=False,
        scale=1.0,
    )

    def run(inputs: Inputs) -> np.ndarray:
        with torch.inference_mode():
            return run_scan(scan, "auto")[0].transpose(0, 1).unsqueeze(2).numpy()

    return run


def opened(file: Path, runtime: str, threads: int) -> Run:
    """A file in a runtime, in float32."""
    if runtime == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return lambda inputs: session.run(["y"], inputs)[0]
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(str(file), "CPU", settings).create_infer_request()
    return lambda inputs: request.infer(inputs)["y"].copy()


def loading(file: str, runtime: str, inputs: str) -> dict[str, float]:
    """Seconds to load a file, and the growth of the peak of memory in MB, of this process."""
    from scan_memory import RESET, resident_peak

    values = dict(np.load(inputs))
    if runtime == "onnxruntime":
        import onnxruntime  # noqa: F401  not what is measured
    else:
        import openvino  # noqa: F401
    RESET.write_text("5", encoding="utf-8")
    before, start = resident_peak(), time.perf_counter()
    run = opened(Path(file), runtime, 1)
    seconds = time.perf_counter() - start
    run(values)
    return {"load": seconds, "peak": (resident_peak() - before) / 1024}


def reason(text: str) -> str:
    """The line of an error that says most."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [
        line
        for line in lines
        if "Number of" in line or "not supported" in line or "not implemented" in line or "No conversion" in line
    ]
    return (telling or lines or ["failed"])[-1][:160]


def versions() -> list[str]:
    from importlib.metadata import version

    return [f"{name} {version(name)}" for name in ("torch", "onnxruntime", "openvino")]


if __name__ == "__main__":
    main()
