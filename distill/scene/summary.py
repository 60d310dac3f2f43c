"""The summary of a predicted scene."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SceneSummary:
    """A predicted scene.

    Attributes:
        name: Of its outputs.
        source: The file.
        height: In pixels, as predicted.
        width: The same.
        transform: Pixels to map units, see `Georeference`; None without coordinates.
        crs: The coordinate reference system as WKT; None without one.
        tiles: How many tiles it was cut into.
        empty_tiles: How many of them hold no data and were not predicted.
        full_tiles: How many of them hold as many instances as the head can find, and maybe more.
        counts: Instances by class, of a run of instances.
        shares: Share of the pixels with data by class, of land cover.
        data_pixels: How many pixels with data have a class, of land cover.
        stretch: The values that became black and white; None where 8-bit values are used as stored.
        outputs: Names of the files in the output folder.
        notes: What there is to tell, in lines.
        seconds: Of prediction and writing, of all processes together.
    """

    name: str
    source: str
    height: int
    width: int
    transform: tuple[float, float, float, float, float, float] | None
    crs: str | None
    tiles: int
    empty_tiles: int
    full_tiles: int
    counts: Mapping[str, int]
    shares: Mapping[str, float]
    data_pixels: int
    stretch: tuple[float, float] | None
    outputs: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """As `summary.json` has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "SceneSummary":
        """Reads the result of `as_json`."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
        return cls(**fields)
