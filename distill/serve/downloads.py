"""Files to download without what the page does not show."""

import json
from pathlib import Path


def from_score(path: Path, score: float) -> bytes:
    """COCO results or a GeoJSON FeatureCollection, without those below a score."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, list):
        content = [one for one in content if one["score"] >= score]
    else:
        content["features"] = [one for one in content["features"] if one["properties"]["score"] >= score]
    return json.dumps(content, ensure_ascii=False).encode()
