"""The keys of a recipe that say where stored targets are."""

from dataclasses import dataclass

from distill.errors import unknown_name

ERROR, LIVE = "error", "live"


@dataclass
class CacheSettings:
    """Stored targets, in place of a teacher that runs in every step.

    Args:
        root: Folder that `distill cache` wrote; null for a live teacher. With it the teacher is not built.
        on_mismatch: What to do with a view that is not the one that the teacher saw, because its image has changed or
            another machine makes other views: "error" stops, "live" builds the teacher and has it see the view.
    """

    root: str | None = None
    on_mismatch: str = ERROR

    def __post_init__(self) -> None:
        """Checks the policy.

        Raises:
            UserError: There is no such policy.
        """
        if self.on_mismatch not in (ERROR, LIVE):
            raise unknown_name("model.cache.on_mismatch", self.on_mismatch, (ERROR, LIVE))
