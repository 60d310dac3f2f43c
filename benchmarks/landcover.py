"""Land cover by distilled students and by the same students from random weights, with a quarter and all of the labels.

    python benchmarks/landcover.py --root DATA --teachers imagenet=LITE2
    python benchmarks/landcover.py --root DATA --teachers imagenet=LITE2 --students lale_s1 --shares 0.25 --seeds 0
    python benchmarks/landcover.py --root DATA --teachers imagenet=LITE2 --table    # of what there is; trains nothing

DATA holds `landcover` (the Dubai tiles, see `distill.data.DubaiLandCover`), `nwpu` and `unlabelled`. Every teacher
teaches each student on pixels without labels: those of the land-cover training images, of NWPU's training images and
of `unlabelled`. Its targets are stored once for all students and seeds (docs/cache.md). Then the student and its own
decoder are trained on labels, as they are from random weights: the same images, views, steps and learning rates to
choose from. A seed draws the images of a share of the labels, initial weights and views. The two test tiles are scored
once, at the resolution of the files; `--select` scores two of the six training tiles instead and trains on the others.

Where students start:

    scratch    random weights
    labels     a ResNet-18 that has learned from the same labels as the student will, and from no others
    imagenet   EfficientNet-Lite2 of ImageNet; FILE is from benchmarks/efficientnet_lite.py
    nwpu_cnn   a ResNet-18 cut after stride 8 that has learned NWPU's objects; FILE is `teacher/student.safetensors` of
               benchmarks/distillation_study.py
    vit        a ViT; FILE is the `student.safetensors` of a run that trained it

Runs that are there are kept, and an interrupted one is resumed: call it again to go on. One thread for each run. Beside
them stand classifiers that look at the colour of one pixel at most, on the labels of the first seed and the same test
pixels:

    majority class       the most frequent class everywhere
    colour histogram     the most frequent class among training pixels of the same colour, in bins of 8 x 8 x 8 levels
    the same, balanced   every class weighed alike, which trades accuracy for mIoU
"""

import argparse
import sys
from pathlib import Path

from landcover_colours import baselines
from landcover_runs import LABELS, SCRATCH, STUDENTS, TEACHERS, Run, Study
from measuring import console, make_table
from studying import on_one_thread, spread

from distill.data import SemanticFolder

SCORES = ("mIoU", "macro_F1", "accuracy")
RATES = {"lale_s1": 2.0e-3, "efficientvit_b0": 4.0e-3}  # the first of recipes/landcover, the second by --select


def main() -> None:
    arguments = parse()
    study = Study(arguments.root.absolute(), arguments.work.absolute(), arguments.select, arguments.distill_steps)
    study.weights |= {name: Path(file).absolute() for name, file in arguments.teachers}
    if arguments.run:
        student, start, share, seed = arguments.run
        study.score(run_of(arguments, student, start, float(share), int(seed)))
        return
    if not arguments.table:
        study.prepare()
        # All conditions with the first seed, then with the next: the table widens evenly.
        for seed in arguments.seeds:
            for share in arguments.shares:
                for student in arguments.students:
                    for start in arguments.starts:
                        if not study.done(run_of(arguments, student, start, share, seed)):
                            on_one_thread(__file__, [*sys.argv[1:], "--run", student, start, share, seed])
    show(study, arguments)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="the data")
    parser.add_argument("--work", type=Path, default=Path("runs/landcover_study"), help="where all runs are written")
    parser.add_argument("--teachers", nargs="+", default=[], type=named_file, metavar="NAME=FILE")
    parser.add_argument("--starts", nargs="+", choices=[SCRATCH, *TEACHERS], help="by default scratch and all teachers")
    parser.add_argument("--students", nargs="+", default=list(STUDENTS), choices=STUDENTS)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 1.0], help="of the labelled images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300, help="of a training on labels")
    parser.add_argument("--lr", type=float, help="its learning rate, where another than the selected one is wanted")
    parser.add_argument("--distill-steps", type=int, default=1200)
    parser.add_argument("--select", action="store_true", help="score two training tiles, not the test tiles")
    parser.add_argument("--table", action="store_true", help="only the table of what there is")
    parser.add_argument(
        "--run", nargs=4, metavar=("STUDENT", "START", "SHARE", "SEED"), help="one run, in this process"
    )
    arguments = parser.parse_args()
    known = [SCRATCH, LABELS, *dict(arguments.teachers)]
    arguments.starts = arguments.starts or known
    if not arguments.table and (lacking := [start for start in arguments.starts if start not in known]):
        parser.error(f"--starts has {', '.join(lacking)}, of which --teachers names no file")
    return arguments


def named_file(text: str) -> tuple[str, str]:
    """A teacher and its file."""
    name, _, file = text.partition("=")
    if name not in TEACHERS or name == LABELS or not file:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=FILE with the name of a teacher")
    return name, file


def run_of(arguments: argparse.Namespace, student: str, start: str, share: float, seed: int) -> Run:
    lr = arguments.lr or RATES[student]
    return Run(student, start, share, seed, arguments.steps, lr)


def show(study: Study, arguments: argparse.Namespace) -> None:
    """Means over seeds with 95 % t-intervals, and the gains over the same seeds from random weights."""
    names = list(study.data(1.0, 0)["classes"])
    where = "two training tiles held out" if study.select else "test tiles"
    classes = [f"IoU/{name}" for name in names]
    table = make_table(f"Land cover, {where}, percent", "", "labels", "seeds", "gain of mIoU", *SCORES, *names)
    for share in arguments.shares:
        whole = study.data(share, arguments.seeds[0]) | {"root": str(study.root / "landcover")}
        data = SemanticFolder(**whole, num_workers=0)
        for name, score in baselines(data).items():
            table.add_row(name, f"{share:.0%}", "", "", *(f"{100 * score[key]:.1f}" for key in (*SCORES, *classes)))
        for student in arguments.students:
            for start in arguments.starts:
                runs = {seed: run_of(arguments, student, start, share, seed) for seed in arguments.seeds}
                found = {seed: study.scores(run) for seed, run in runs.items() if study.done(run)}
                if not found:
                    continue
                twins = {seed: run_of(arguments, student, SCRATCH, share, seed) for seed in found}
                pairs = [(found[seed], study.scores(twin)) for seed, twin in twins.items() if study.done(twin)]
                gains = [100 * (mine["mIoU"] - other["mIoU"]) for mine, other in pairs]
                gain = spread(gains, 1) if start != SCRATCH and gains else ""
                row = [spread([100 * score[key] for score in found.values()], 1) for key in (*SCORES, *classes)]
                table.add_row(f"{student}, {start}", f"{share:.0%}", str(len(found)), gain, *row)
    console.print(table)


if __name__ == "__main__":
    main()
