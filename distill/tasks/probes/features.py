"""Functions that a probe can score: of students, of teachers, and of the colour alone."""

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from distill.contracts import TeacherBase
from distill.layers import Normalize
from distill.plain_student import as_student
from distill.tasks.probes.base import Features


def student_features(student: nn.Module) -> Features:
    """All maps of a student, which is put into eval mode, of images normalised as it wants them."""
    model = as_student(student).eval()
    normalize = Normalize.of(model).to(next(model.parameters()).device)

    def features(images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = model(normalize(images))
        return maps

    return features


def teacher_features(teacher: TeacherBase, feature: str) -> Features:
    """One feature of a teacher, such as "neck" of SAM, of images as they are."""
    frozen = teacher.freeze()

    def features(images: Tensor) -> Tensor:
        maps: Tensor = frozen(images)[feature]
        return maps

    return features


def mean_colour(images: Tensor) -> Tensor:
    """Mean colours of squares of 8 x 8 pixels: what a probe finds without any network."""
    return avg_pool2d(images, 8)
