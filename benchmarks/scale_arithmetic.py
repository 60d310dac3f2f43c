"""Hours, disk and reading of distilling on many images: prints the tables of docs/scale.md.

All of it is arithmetic on the speeds below. They are published ones unless the table says "measured": put in your own
with --speed, for example what `distill fit` prints as images/s, over the number of its GPUs.

    python benchmarks/scale_arithmetic.py
    python benchmarks/scale_arithmetic.py --images 112000 --speed "SAM-H 1024, mine" 18 256 64
"""

import argparse
from dataclasses import dataclass

SA_1B = 11_185_362  # images, as Segment Anything (arXiv 2304.02643) counts them


@dataclass(frozen=True)
class Teacher:
    """A frozen teacher at one image size.

    Args:
        name: Model, image size, code, GPU.
        speed: Images a second on one GPU.
        channels: Of the stored map.
        side: Of the stored map, in positions.
        source: Where the speed is from.
    """

    name: str
    speed: float
    channels: int
    side: int
    source: str

    def hours(self, images: int) -> float:
        """GPU-hours for one view of each image."""
        return images / self.speed / 3600

    def terabytes(self, images: int, bytes_a_value: int) -> float:
        """Disk for one view of each image; int8 has a 4-byte scale for each channel."""
        scale = 4 * self.channels if bytes_a_value == 1 else 0
        return images * (self.channels * self.side**2 * bytes_a_value + scale) / 1e12

    def gigabytes_a_second(self, images_a_second: float, bytes_a_value: int) -> float:
        """What students of so many images a second read together."""
        return images_a_second * self.channels * self.side**2 * bytes_a_value / 1e9


TEACHERS = (
    Teacher("SAM-H 1024, fused, A100", 22.7, 256, 64, "segment-anything-fast, README"),
    Teacher("SAM-H 1024, timm, RTX 4090", 6.3, 256, 64, "timm's benchmark tables"),
    Teacher("SAM-B 1024, fused, A100", 85.0, 256, 64, "segment-anything-fast, README"),
    Teacher("DINOv3-L 512, RTX 4090", 100.0, 1024, 32, "457/s at 256 px in timm's tables, by multiply-adds"),
    Teacher("DINOv3-L 1024, RTX 4090", 18.0, 1024, 64, "the same; at most this"),
)


def teacher_table(teachers: tuple[Teacher, ...], images: int) -> list[str]:
    """Time and disk for one view of each image."""
    rows = [
        "| teacher, one view | images/s | GPU-hours | 8 GPUs | 64 GPUs | float16 | int8 | speed from |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for one in teachers:
        hours, disks = one.hours(images), (one.terabytes(images, size) for size in (2, 1))
        times = " | ".join(f"{value:.1f} h" for value in (hours / 8, hours / 64))
        stored = " | ".join(f"{value:.2f} TB" for value in disks)
        rows.append(f"| {one.name} | {one.speed:g} | {hours:.1f} | {times} | {stored} | {one.source} |")
    return rows


def plan_table(teacher: Teacher) -> list[str]:
    """The same teacher live and cached, in plans of different size; all in GPU-hours of the teacher."""
    rows = ["| plan | images | epochs x runs | live | cached, V = 1 | V = 4 | float16, V = 1 |", "|---|" + "---:|" * 6]
    plans = (("all of SA-1B once", SA_1B, 1, 1), ("1 % of it", SA_1B // 100, 10, 18), ("10,000 images", 10_000, 60, 18))
    for name, images, epochs, runs in plans:
        once, disk = teacher.hours(images), teacher.terabytes(images, 2)
        stored = f"{disk:.1f} TB" if disk >= 1 else f"{disk * 1000:.0f} GB"
        cells = f"{once * epochs * runs:,.1f} h | {once:,.1f} h | {4 * once:,.1f} h | {stored}"
        rows.append(f"| {name} | {images:,} | {epochs} x {runs} | {cells} |")
    return rows


def disk_table(teachers: tuple[Teacher, ...], images_a_second: float) -> list[str]:
    """What students read of a cache."""
    rows = [
        "| stored map | 1 GPU, float16 | 8 GPUs, float16 | 64 GPUs, float16 | 64 GPUs, int8 |",
        "|---|" + "---:|" * 4,
    ]
    shapes = {(one.channels, one.side): one for one in teachers}
    for (channels, side), one in shapes.items():
        ways = ((1, 2), (8, 2), (64, 2), (64, 1))
        cells = " | ".join(f"{one.gigabytes_a_second(gpus * images_a_second, size):.2f} GB/s" for gpus, size in ways)
        rows.append(f"| {channels} x {side} x {side} | {cells} |")
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=SA_1B)
    parser.add_argument(
        "--student-speed", type=float, default=100.0, help="images a second and GPU that a student takes"
    )
    parser.add_argument("--speed", nargs=4, metavar=("NAME", "IMAGES_A_SECOND", "CHANNELS", "SIDE"), action="append")
    given = parser.parse_args()
    own = [Teacher(name, float(s), int(c), int(side), "measured") for name, s, c, side in given.speed or ()]
    every = (*TEACHERS, *own)
    for table in (teacher_table(every, given.images), plan_table(every[0]), disk_table(every, given.student_speed)):
        print("\n".join(table), end="\n\n")
