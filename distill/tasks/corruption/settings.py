"""The keys of `model.corruption`."""

from dataclasses import dataclass

from distill.errors import UserError, unknown_name

SCHEDULES = ("linear", "cosine")
WORDS = {
    "noise_scale": ("token", "batch", "signal"),
    "mask_shape": ("token", "block"),
    "guide": ("none", "high", "low"),
    "control": ("fixed", *SCHEDULES, "adaptive", "plateau"),
    "level": ("token", "image"),
}


@dataclass
class CorruptionSettings:
    """How the student's input is corrupted; by default it is not (docs/distillation.md, "The study").

    Args:
        noise: Fraction of tokens that receive additive Gaussian noise, 0 to 1.
        mask: Fraction of other tokens that are replaced by a learned mask token; noise + mask is at most 1.
        sigma: Standard deviation of the noise, relative to what `noise_scale` names; of two numbers every image draws
            its own between them.
        noise_scale: "token" scales the noise by each token's own standard deviation over its channels (the
            signal-adaptive reading of RS4D), "batch" by one standard deviation of all tokens, "signal" by the
            magnitude of every single value.
        mask_shape: "token" masks tokens independently of each other, "block" rectangles of them.
        block_area: Smallest and largest area of a rectangle, as a fraction of the image.
        block_aspect: Smallest and largest height of a rectangle over its width.
        guide: "high" masks preferably where the teacher's map departs most from its mean over the image, "low" where
            it departs least, "none" anywhere.
        control: Who sets the strength, a factor on both fractions: "fixed" holds 1; "linear" and "cosine" are schedules
            from `start` to `end`; "adaptive" follows how far the student is below the image-independent baseline;
            "plateau" raises it while the student keeps up and lowers it when the student falls behind.
        start: Strength at the first step, with a schedule or plateau.
        end: Strength that a schedule ends with, or that plateau raises it to at most.
        steps: Steps from `start` to `end`; with plateau at the fastest. By default all steps of the run.
        goal: With adaptive, the training L1, as a fraction of the baseline's, at which the strength is 1.
        gap: With plateau, the L1 on corrupted training images over that on clean validation images, both as fractions
            of the baseline's: below the first number the strength rises, above the second it falls, between them it
            holds.
        level: "token" corrupts the tokens after the student's patch embedding, "image" square patches of pixels,
            which any student takes.
        patch_size: Side of those patches in pixels, with level "image".
    """

    noise: float = 0.0
    mask: float = 0.0
    sigma: float | tuple[float, float] = 1.0
    noise_scale: str = "token"
    mask_shape: str = "token"
    block_area: tuple[float, float] = (0.05, 0.15)
    block_aspect: tuple[float, float] = (0.5, 2.0)
    guide: str = "none"
    control: str = "fixed"
    start: float = 0.0
    end: float = 1.0
    steps: int | None = None
    goal: float = 0.75
    gap: tuple[float, float] = (1.05, 1.15)
    level: str = "token"
    patch_size: int = 16

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            UserError: A number outside its range, a range that ends before it begins, or an unknown word.
        """
        for key in ("noise", "mask", "start", "end"):
            value = vars(self)[key]
            if not 0 <= value <= 1:
                raise UserError(f"model.corruption.{key} is {value}; it is a fraction and must lie in [0, 1]")
        if self.noise + self.mask > 1:
            raise UserError(
                f"model.corruption.noise + mask is {self.noise + self.mask}; the two sets of tokens are disjoint, "
                "so the sum must be at most 1"
            )
        if min(self.sigmas) < 0:
            raise UserError(f"model.corruption.sigma is {self.sigma}; a standard deviation cannot be negative")
        for key, least in (("patch_size", "pixel"), ("steps", "step")):
            value = vars(self)[key]
            if value is not None and value < 1:
                raise UserError(f"model.corruption.{key} is {value}; it must be at least 1 {least}")
        if not 0 <= self.goal < 1:
            raise UserError(f"model.corruption.goal is {self.goal}; it must lie in [0, 1)")
        for key, most in (("block_area", 1.0), ("block_aspect", float("inf")), ("gap", float("inf"))):
            low, high = vars(self)[key]
            if not 0 < low <= high <= most:
                limit = " and at most 1" if most == 1 else ""
                raise UserError(
                    f"model.corruption.{key} is {[low, high]}; give two numbers above 0{limit}, the smaller first"
                )
        if self.sigmas[0] > self.sigmas[1]:
            raise UserError(f"model.corruption.sigma is {list(self.sigmas)}; give the smaller number first")
        if self.control == "plateau" and self.start > self.end:
            raise UserError(
                f"model.corruption.start is {self.start} and end {self.end}; with control plateau, which starts at the "
                "least strength and ends at most at the other, start must not be larger"
            )
        for key, allowed in WORDS.items():
            if vars(self)[key] not in allowed:
                raise unknown_name(f"model.corruption.{key}", vars(self)[key], allowed)

    @property
    def corrupts(self) -> bool:
        """Whether there is any corruption."""
        return self.noise > 0 or self.mask > 0

    @property
    def sigmas(self) -> tuple[float, float]:
        """The smallest and the largest sigma of an image."""
        return (self.sigma, self.sigma) if isinstance(self.sigma, int | float) else self.sigma
