"""Objects across tiles: this project's merge beside the rules of other libraries, on the same detections.

    pip install sahi supervision                       # peers; those that are absent are left out, and named
    python benchmarks/scene_merge.py                   # three minutes
    python benchmarks/scene_merge.py --side 2048 --objects 312 --seeds 5 --no-peers

A scene of 8192 px with 5,000 objects of 8 to 600 px and some longer ones (`scene_oracle.py`) is cut into tiles of 1024
px that overlap by 128 px. A detector that errs only in outlines, by up to 1 px, finds all there is in each tile. A
perfect merge gives each object once: no doubles, no splits, no joins, none lost. The IoU with the truth cannot exceed
that of detections that no border cuts, since their outlines are off, too; the first line of the table has it.

The second table is about the same scene and a worse detector: it misses 5 % of what a tile shows, and what borders cut
it ends up to 4 px before them. The third moves the origin of the tiles and changes their side, and counts the objects
that are not found as before; this detector errs in nothing, so that any difference is the merge's.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from measuring import console, make_table, number, processor
from scene_merge_peers import Found, available_peers, locate
from scene_oracle import detect, make_objects, uncut
from scene_verdict import Verdict, judge

from distill.data.tiling import TilePlan
from distill.patch import Patch
from distill.scene.merge import CrossTileMerge

OURS = "this project"
WORSE = {"missed": 0.05, "short": 4}
SHIFT = 333  # pixels
COLUMNS = ("doubles", "splits", "joins", "lost", "objects too many", "mean IoU", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=8192, help="of the scene in pixels")
    parser.add_argument("--objects", type=int, default=5000)
    parser.add_argument("--tile", type=int, default=1024, help="side of the tiles in pixels")
    parser.add_argument("--overlap", type=int, default=128, help="of the tiles in pixels")
    parser.add_argument("--seeds", type=int, default=1, help="scenes; the table sums over them")
    parser.add_argument("--no-peers", action="store_true")
    arguments = parser.parse_args()

    plan = TilePlan(arguments.side, arguments.side, arguments.tile, arguments.overlap)
    scenes = [make_objects(plan, arguments.objects, seed) for seed in range(arguments.seeds)]
    peers, missing = ({}, {}) if arguments.no_peers else available_peers()
    rules = {OURS: lambda found, plan: merged(found, plan)}
    rules |= {name: located(peer) for name, peer in peers.items()}
    for title, errors in (("outlines off by 1 px", {}), ("5 % missed, cut ones end early, too", WORSE)):
        found = [detect(objects, plan, seed=seed, **errors) for seed, objects in enumerate(scenes)]
        detections = sum(len(instances) for one in found for instances in one.values())
        objects = sum(map(len, scenes))
        table = make_table(f"{detections} detections of {objects} objects, {title}", "rule", *COLUMNS)
        ceiling = [judge(objects, uncut(objects, seed=seed)).iou for seed, objects in enumerate(scenes)]
        table.add_row("(detections that no border cuts)", "", "", "", "", "", f"{np.mean(ceiling):.4f}", "")
        for name, rule in rules.items():
            table.add_row(name, *row(rule, scenes, found, plan))
        console.print(table)
    for name, remedy in missing.items():
        console.print(f"{name} is LEFT OUT: it is not installed; {remedy}")
    table = make_table("The same objects in other tiles: how many of them are not found as before", "tiles", "share")
    for title, share in moved(scenes[0], plan):
        table.add_row(title, f"{share:.2%}")
    console.print(table)
    console.print(processor())


def merged(found: Found, plan: TilePlan) -> list[Patch]:
    """This project's rule."""
    merge = CrossTileMerge(plan)
    rows = [merge.add_row(row, [(tile, found[tile]) for tile in plan.row(row)]) for row in range(len(plan.tops))]
    return [one.mask for final in [*rows, merge.finish()] for one in final]


def located(peer: Callable[..., list[Patch]]) -> Callable[[Found, TilePlan], list[Patch]]:
    """A peer's rule, from what tiles hold."""
    return lambda found, plan: peer(locate(found), plan)


def row(
    rule: Callable[[Found, TilePlan], list[Patch]], scenes: list[list[Patch]], found: list[Found], plan: TilePlan
) -> list[str]:
    """What went wrong in all scenes, and how long it took."""
    seconds, verdicts = 0.0, []
    for objects, one in zip(scenes, found, strict=True):
        start = time.process_time()
        results = rule(one, plan)
        seconds += time.process_time() - start
        verdicts.append(judge(objects, results))
    counts = [sum(getattr(v, name) for v in verdicts) for name in Verdict.__annotations__ if name != "iou"]
    return [*map(str, counts), f"{np.mean([v.iou for v in verdicts]):.4f}", number(seconds)]


def moved(objects: list[Patch], plan: TilePlan) -> list[tuple[str, float]]:
    """The share of objects whose merged mask changes when the tiles do."""
    side = plan.height + SHIFT
    shifted = [Patch(patch.top + SHIFT, patch.left + SHIFT, patch.pixels) for patch in objects]
    before = pixels(merged(detect(objects, plan, jitter=0), plan), 0)
    changes = []
    for title, tile, scene, offset in (
        (f"origin moved by {SHIFT} px", plan.tile, shifted, SHIFT),
        (f"side {plan.tile * 3 // 4} px", plan.tile * 3 // 4, objects, 0),
    ):
        other = (
            TilePlan(side, side, tile, plan.overlap)
            if offset
            else TilePlan(plan.height, plan.width, tile, plan.overlap)
        )
        after = pixels(merged(detect(scene, other, jitter=0), other), offset)
        changes.append((title, len(before ^ after) / len(objects)))
    return changes


def pixels(results: list[Patch], offset: int) -> set[tuple[int, int, tuple[int, ...], bytes]]:
    """Masks as they compare, moved back."""
    return {(p.top - offset, p.left - offset, p.pixels.shape, p.pixels.tobytes()) for p in results}


if __name__ == "__main__":
    main()
