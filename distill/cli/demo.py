"""`distill demo`: a teacher, its distilled student and the same student from scratch on synthetic scenes, compared."""

import argparse
from pathlib import Path

from distill.launch.demo import compare


def run(words: list[str]) -> None:
    """Runs `distill demo [--dir FOLDER] [--seed N]`."""
    parser = argparse.ArgumentParser("distill demo", description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path("runs/demo"), help="where everything is written")
    parser.add_argument("--seed", type=int, default=0, help="seed of scenes, weights and order")
    arguments = parser.parse_args(words[1:])
    compare(arguments.dir, arguments.seed)
