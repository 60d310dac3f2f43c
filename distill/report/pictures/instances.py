"""Pictures of objects and of the instances that a model finds."""

from typing import Any

from distill.colours import class_colour
from distill.evaluation.coco import CocoEvaluator
from distill.evaluation.units import counted
from distill.report.pictures.choice import by_classes
from distill.report.pictures.drawing import Drawing, draw_objects, photo


def instance_drawings(dataset: Any, evaluator: CocoEvaluator) -> list[Drawing]:
    """Images that were scored, with their objects and with the predictions that were scored.

    Of the predictions as many are drawn as there are objects, highest score first: a score threshold would leave
    nothing of a model whose scores are still low. Everything is drawn in the pixels of the file, whatever the size that
    the model sees it in.

    Args:
        dataset: A `distill.data.views.instances.InstanceViews`.
        evaluator: With the predictions.
    """
    seen = set(evaluator.seen())
    scored = {i: dataset.classes(i) for i, image in enumerate(dataset.images) if image["id"] in seen}
    chosen = by_classes(scored)
    ids = {dataset.images[index]["id"] for index in chosen}
    results = [result for result in evaluator.results() if result["image_id"] in ids]
    label_of = {category_id: label for label, category_id in enumerate(evaluator.category_ids)}
    return [_drawing(dataset, index, results, label_of, evaluator.class_names) for index in chosen]


def _drawing(
    dataset: Any, index: int, results: list[dict[str, Any]], label_of: dict[int, int], names: list[str]
) -> Drawing:
    image_id = dataset.images[index]["id"]
    pixels = dataset.read(index).numpy()
    picture, size = photo(pixels), pixels.shape[1:]
    records = [record for record in dataset.annotations.objects(image_id) if not record.get("iscrowd")]
    objects = [(record, record["label"]) for record in records]
    own = sorted((result for result in results if result["image_id"] == image_id), key=lambda r: -r["score"])
    found = [(result, label_of[result["category_id"]]) for result in own[: len(objects)]]
    said = f"best {len(found)} of {counted(len(own), 'instance')}" if own else "no instance"
    if found:
        said += f", scores from {found[-1][0]['score']:.2f}"
    return Drawing(
        name=dataset.name(index),
        parts={
            "input": picture,
            "truth": draw_objects(picture, size, objects),
            "prediction": draw_objects(picture, size, found),
        },
        captions={"truth": counted(len(objects), "object"), "prediction": said},
        legend={names[label]: class_colour(label) for label in sorted({label for _, label in [*objects, *found]})},
    )
