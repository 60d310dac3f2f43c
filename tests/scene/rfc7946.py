"""A checker of GeoJSON by the words of RFC 7946."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import shapely


def check(path: Path, decimals: int = 7) -> list[dict[str, Any]]:
    """The features of a file of polygons, after everything about them was asserted."""
    text = path.read_bytes().decode("utf-8")
    assert not text.startswith("\ufeff")
    content = json.loads(text, parse_constant=lambda name: pytest_fail(name))
    assert content["type"] == "FeatureCollection"
    assert not {"crs", "coordinates", "geometry", "geometries", "properties"} & content.keys()  # sections 4 and 7.1
    numbers = re.findall(r"-?\d+\.(\d+)(?![\d\"eE])", re.sub(r'"properties": \{.*?\}\}', "", text))
    assert all(len(places) <= decimals for places in numbers)  # section 11.2
    for feature in content["features"]:
        assert feature["type"] == "Feature"
        assert {"geometry", "properties"} <= feature.keys()  # section 3.2
        if feature["geometry"] is not None:
            check_geometry(feature["geometry"])
    return content["features"]


def pytest_fail(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def check_geometry(geometry: dict[str, Any]) -> None:
    assert geometry["type"] in ("Polygon", "MultiPolygon")
    parts = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    assert parts
    for rings in parts:
        for number, ring in enumerate(rings):
            assert len(ring) >= 4  # section 3.1.6
            assert ring[0] == ring[-1]
            assert shapely.LinearRing(ring).is_ccw == (number == 0)
            assert all(len(position) == 2 for position in ring)
            assert all(-180 <= longitude <= 180 and -90 <= latitude <= 90 for longitude, latitude in ring)
            assert all(abs(a[0] - b[0]) <= 180 for a, b in pairwise(ring))  # section 3.1.9
    assert shapely.is_valid(shapely.geometry.shape(geometry))
