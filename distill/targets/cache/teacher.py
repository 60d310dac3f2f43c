"""Takes the place of a teacher whose targets are stored, without a network.

Axes: B batch, C channels, H W pixels, h w the teacher's grid.
"""

from collections.abc import Callable

from torch import Tensor

from distill.contracts import TeacherBase
from distill.errors import UserError
from distill.targets.cache.folder import CacheFolder


class CachedTeacher(TeacherBase):
    """A teacher described by its cache. It has no parameters.

    Args:
        root: Folder of the cache.

    Attributes:
        info: Header of the cache.
        build_teacher: Builds the teacher itself, for views that are not stored; None where these are an error.

    Raises:
        UserError: The folder holds no cache.
    """

    build_teacher: Callable[[], TeacherBase] | None = None

    def __init__(self, root: str) -> None:
        super().__init__()
        self.info = CacheFolder(root).read()
        features = {name.partition("@")[0]: one for name, one in self.info.targets.items()}
        self.channels = {name: one.shape[0] for name, one in features.items()}
        self.reduction = {name: one.reduction for name, one in features.items()}
        self._built: tuple[TeacherBase, ...] = ()  # no submodule: it is as little part of a checkpoint as any teacher

    @property
    def label(self) -> str:
        """The label of the teacher."""
        return self.info.teacher["label"]

    @property
    def class_path(self) -> str:
        """The class path of the teacher."""
        return self.info.teacher["class"]

    @property
    def precision(self) -> str:
        """The teacher's precision when the cache was made."""
        return self.info.teacher["precision"]

    @property
    def digest(self) -> str:
        """The digest of the teacher."""
        return self.info.teacher["digest"]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The teacher's features of images (B, 3, H, W) in [0, 1]; the teacher is built on first use.

        Raises:
            UserError: Nothing but what is stored may be used, or the teacher has other weights than the cache's.
        """
        if not self._built:
            if self.build_teacher is None:
                raise UserError(
                    "targets of these images are not in the cache; set model.cache.root to null, or "
                    "model.cache.on_mismatch to live, for a teacher that sees them"
                )
            teacher = self.build_teacher().freeze()
            if teacher.digest != self.digest:
                raise UserError(
                    f"model.teacher has other weights ({teacher.digest}) than the cache was made with ({self.digest}); "
                    "name the same weights, or make another cache"
                )
            teacher = teacher.to(images.device)
            if teacher.precision != self.precision:
                raise UserError(
                    f"model.teacher computes in {teacher.precision} here, the cache was made in {self.precision}; set "
                    f"model.teacher.precision to {self.precision}, or make another cache"
                )
            self._built = (teacher,)
        found: dict[str, Tensor] = self._built[0](images)
        return found
