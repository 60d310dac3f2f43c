"""`distill <verb>`: one thin file per verb. Imports of a verb happen when it is called."""

import shutil
import sys
import textwrap
from collections.abc import Sequence
from importlib import import_module

from distill.cli.encoding import escape_what_cannot_be_shown, restart_in_utf8_mode
from distill.errors import Stopped, UserError, unknown_name
from distill.rank import is_rank_zero
from distill.shadowing import claim_packages, conflict

claim_packages()  # here, not in `main`, because worker processes that are started by spawn only import

_WIDEST = 100  # columns of the help
# The extra `mmdet` brings the other build of OpenCV, which needs graphics libraries of the system.
HEADLESS_OPENCV = "pip uninstall -y opencv-python && pip install --force-reinstall --no-deps opencv-python-headless"
VERBS = {
    "fit": ("recipe_verbs", "train what RECIPE describes: distil a student, or fine-tune it under a head"),
    "validate": ("recipe_verbs", "score a run on its validation images"),
    "test": ("recipe_verbs", "score a run on its test images: box and mask AP, or mIoU"),
    "cache": ("cache", "store the teacher's targets for a pool of views, so that runs need no teacher"),
    "export": (
        "export",
        "the trained model as a file for other runtimes (ONNX, OpenVINO, .pt2), compared with the run",
    ),
    "predict": ("predict", "masks, map polygons and class maps of images and rasters of any size"),
    "bench": ("bench", "what runs and exported files cost on this machine, side by side: time, memory, multiply-adds"),
    "sweep": ("sweep", "one recipe with several values and seeds: a run for each, then one table with intervals"),
    "compare": ("compare", "runs in one table and one page: quality, gain over the scratch baseline, costs"),
    "seeds": ("seeds", "mean and spread of the scores of several runs, one per seed"),
    "dashboard": (
        "dashboard",
        "runs as W&B dashboards: offline runs to send, a workspace and a report that compare them",
    ),
    "demo": ("demo", "teacher, distillation, fine-tuning and comparison on synthetic scenes, in minutes on a CPU"),
    "push": ("push", "share a run as a folder or on the Hugging Face Hub: weights, recipe, model card"),
    "pull": ("pull", "take a shared model into a folder; no stored code is run"),
    "serve": ("serve", "a page on this machine that shows what runs find in images dropped on it"),
    "data": ("data", "prepare, tile, verify or preview a labelled data set"),
    "doctor": ("doctor", "what is installed, which kernels are active and why, and the line that fixes each problem"),
    "recipes": ("recipes", "list, show or copy the recipes that come with the package"),
    "completion": (
        "completion",
        "a script for bash, zsh or fish: completes verbs, options, recipes and keys",
    ),
    "mmdet-config": ("mmdet_config", "write a fine-tuning recipe as a plain MMDetection config"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb and returns the exit code.

    That is 0, 1 if some runs of a sweep failed, 2 after one line about bad input, 130 if the user stopped it, or 75 if
    SIGTERM did and it can go on. Of several processes that stop together the one that reports has the code, and the
    others end with 0: those that train with it on one machine would be killed together with it at the first other code.

    Args:
        arguments: Words after `distill`; by default those of the process.
    """
    if arguments is None:
        restart_in_utf8_mode()
    escape_what_cannot_be_shown()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0
    if words[0] == "--version":
        from distill import __version__

        print(__version__)
        return 0
    try:
        if line := conflict():
            raise UserError(line)
        if words[0] not in VERBS:
            raise unknown_name("command", words[0], VERBS)
        verb = import_module(f"distill.cli.{VERBS[words[0]][0]}")
        return verb.run(words) or 0
    except UserError as error:
        print(f"distill: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except ImportError as error:
        if error.name != "cv2":
            raise
        print(f"distill: error: OpenCV cannot be loaded ({error}): {HEADLESS_OPENCV}", file=sys.stderr)
        return 2
    except UnicodeError as error:
        if isinstance(error, UnicodeEncodeError | UnicodeDecodeError) and error.encoding != "utf-8":
            print(f"distill: error: {error}; set PYTHONUTF8=1 before Python starts", file=sys.stderr)
            return 2
        raise
    except Stopped as stopped:
        if not is_rank_zero():
            return 0
        print(f"distill: {stopped}", file=sys.stderr)
        return stopped.code
    except KeyboardInterrupt:
        print("distill: stopped", file=sys.stderr)
        return 130
    return 0


def _help() -> str:
    width = min(_WIDEST, shutil.get_terminal_size().columns)
    verbs = "\n".join(
        textwrap.fill(f"  {name:<12} {text}", width, subsequent_indent=" " * 15) for name, (_, text) in VERBS.items()
    )
    codes = (
        "Exit code: 0, 2 for bad input, 130 after Ctrl-C, 75 after SIGTERM. A run that was stopped goes on with "
        "--ckpt_path last, and a sweep with the same command."
    )
    return (
        "usage: distill VERB [arguments]\n\n"
        f"{verbs}\n\n"
        "A run is `distill fit RECIPE [--key value]`, for example\n"
        "  distill fit recipes/rs4d_small.yaml --trainer.max_steps 100\n"
        "`distill VERB --help` says more, and --help-all everything.\n\n" + textwrap.fill(codes, width)
    )
