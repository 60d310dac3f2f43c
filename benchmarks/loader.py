"""Images per second of the loader, and the share of the time that training waits for them.

    python benchmarks/loader.py                                       # a minute; NWPU VHR-10 where it is, else scenes
    python benchmarks/loader.py --root NWPU --image-size 1024 --steps 20

First the loader alone: images per second by number of workers, with zoom and mirroring as by default and with every
augmentation on. Then training steps of the smallest RS4D under a narrow Mask R-CNN, on a GPU if there is one, with the
share of the time that the training loop waited for data. Loading is fast enough if that share is near 0.
"""

import argparse
import logging
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from measuring import console, make_table, number, processor

from distill.data import NWPU, CocoInstances
from distill.data.views.augmentation import Augmentation
from distill.runs.progress import DataWait
from distill.synthetic.scenes import write_scenes
from distill.tasks.instances import FineTuningModule
from distill.training.optim import OptimSettings
from heads import MaskRCNN
from students import RS4D

EVERYTHING = Augmentation(brightness=0.2, contrast=0.2, saturation=0.2, speckle=1.0)
WARM_UP = 2  # batches, in which workers start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("data/nwpu"), help="folder of NWPU VHR-10")
    parser.add_argument("--image-size", type=int, default=512, help="side of the view in pixels")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=4, help="of loading per row")
    parser.add_argument("--steps", type=int, default=6, help="training steps per row")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")
    with tempfile.TemporaryDirectory() as folder:
        given = {"image_size": arguments.image_size, "batch_size": arguments.batch_size, "seed": 0}
        name = "NWPU VHR-10" if arguments.root.is_dir() else "synthetic scenes of 512 px"

        def data(workers: int, augmentation: Augmentation | None = None) -> CocoInstances:
            changes = {"augmentation": augmentation, "turns": augmentation is not None}
            settings: dict[str, Any] = given | {"num_workers": workers} | changes
            return NWPU(str(arguments.root), **settings) if arguments.root.is_dir() else scenes(folder, settings)

        console.print(f"{name}, views of {arguments.image_size} px, batch {arguments.batch_size}")
        table = make_table("The loader alone", "workers", "zoom, mirror: images / s", "every augmentation: images / s")
        for workers in arguments.workers:
            rates = [images_per_second(data(workers, change), arguments.seconds) for change in (None, EVERYTHING)]
            table.add_row(str(workers), *map(number, rates))
        console.print(table)
        table = make_table(
            "Training RS4D tiny under a narrow Mask R-CNN", "workers", "s / step", "share of time waiting"
        )
        for workers in arguments.workers:
            wait = train(data(workers), arguments.steps, arguments.image_size)
            seconds = (wait.waited + wait.worked) / (arguments.steps + 1)
            table.add_row(str(workers), number(seconds), f"{wait.share:.1%}")
        console.print(table)
    console.print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {processor()}")


def scenes(folder: str, settings: dict[str, Any]) -> CocoInstances:
    written = write_scenes(folder, "train", 32, image_size=512)
    paths = {f"{split}_images": str(written / "images") for split in ("train", "val")}
    paths |= {f"{split}_annotations": str(written / "annotations.json") for split in ("train", "val")}
    return CocoInstances(**paths, **settings)


def images_per_second(data: CocoInstances, seconds: float) -> float:
    """Images handed out per second once the workers run, over several epochs if they are short."""
    loader = data.train_dataloader()
    images, start = 0, 0.0
    taken = 0
    while True:
        for batch in loader:
            taken += 1
            if taken == WARM_UP:
                start = time.perf_counter()
            elif taken > WARM_UP:
                images += len(batch["image"])
                passed = time.perf_counter() - start
                if passed > seconds:
                    return images / passed


def train(data: CocoInstances, steps: int, image_size: int) -> DataWait:
    """Waiting and working time of some training steps."""
    wait = DataWait()
    student = RS4D("tiny", image_size=image_size)
    head = partial(MaskRCNN, neck_channels=32, fc_channels=128, roi_samples=64, mask_convs=1, proposals=100)
    module = FineTuningModule(student, head, OptimSettings(lr=1e-4, warmup_steps=1))
    trainer = pl.Trainer(
        max_steps=steps + 1,  # the wait for the first batch is not counted, its step is
        devices=1,
        callbacks=[wait],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(module, datamodule=data)
    return wait


if __name__ == "__main__":
    main()
