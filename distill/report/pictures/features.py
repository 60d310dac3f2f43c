"""Pictures of a distillation: what the student gets, what the teacher and the student make of the image, and the error.

Axes: S side of a view in pixels, C channels, H W the teacher's grid.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from distill.data.sample_key import SampleKey, randomness_of
from distill.report.pictures.choice import spread
from distill.report.pictures.drawing import Drawing, draw_cells, heat, photo
from distill.report.pictures.pca import pca_colours
from distill.tasks.corruption import CorruptionSettings
from distill.tasks.corruption.pictures import corrupted_images
from distill.tasks.matching.pictures import compare_maps


def feature_drawings(dataset: Any, task: Any, as_batch: Callable[[Tensor], Tensor]) -> list[Drawing]:
    """Images spread over a split, each with the maps of teacher and student in colours of one basis.

    The basis is that of the teacher's maps of these images, in the teacher's own scale, so that the pictures of all its
    students compare.

    Args:
        dataset: A `distill.data.views.folder.FolderViews`.
        task: A `distill.tasks.distillation.DistillationModule` in eval mode.
        as_batch: Makes what the task takes of an image (3, S, S).
    """
    samples = {sample["path"]: sample for sample in (dataset[index] for index in spread(len(dataset)))}
    if not samples:
        return []
    # One image at a time: a batch of the teacher may not fit the memory.
    found = [_compare(task, sample, as_batch) for sample in samples.values()]
    teacher, student, errors = (torch.cat(parts).float().cpu() for parts in zip(*found, strict=True))
    teachers, students = pca_colours(teacher, [student])
    settings, strength = task.corruption.settings, float(task.corruption.factor())
    drawings = []
    for position, (name, sample) in enumerate(samples.items()):
        image = sample["image"]
        picture = _photo(image)
        height, width = picture.shape[:2]
        parts = {"input": picture}
        captions: dict[str, str] = {}
        if settings.corrupts and strength > 0:
            target = task.match.target(found[position][0])
            with randomness_of(0, SampleKey(position, 0)):  # the same for every run, whatever its seed
                shown = corrupted_images(as_batch(image), task.student, task.normalize, task.corruption, target)[0]
            parts["corrupted"], captions["corrupted"] = _photo(shown), _said(settings, strength)
        parts |= {
            "teacher": draw_cells(teachers[position].numpy(), (height, width)),
            "student": draw_cells(students[position].numpy(), (height, width)),
            "error": draw_cells(heat(errors[position].numpy()), (height, width)),
        }
        captions["error"] = f"{float(errors[position].mean()):.2f} of the image-independent baseline's L1"
        drawings.append(Drawing(name=name, parts=parts, captions=captions, exact=("teacher", "student", "error")))
    return drawings


def _said(settings: CorruptionSettings, strength: float) -> str:
    """What a corruption does, in words."""
    noise, mask = (f"{100 * strength * fraction:.0f} %" for fraction in (settings.noise, settings.mask))
    shape = " in blocks" if settings.mask_shape == "block" else ""
    where = {"none": "", "high": ", where the teacher's map varies most", "low": ", where it varies least"}
    return f"{noise} of the tokens noisy, {mask} masked{shape}{where[settings.guide]}"


def _compare(task: Any, sample: Any, as_batch: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The maps of one sample, whose target may be stored."""
    batch = task.transfer_batch_to_device(default_collate([sample]), task.device, 0)
    images = as_batch(sample["image"])
    return compare_maps(task.match, task.raw_target(batch | {"image": images}), task.student_maps(images)[0])


def _photo(image: Tensor) -> Any:
    return photo((image * 255).round().clamp(0, 255).to(torch.uint8).numpy())
