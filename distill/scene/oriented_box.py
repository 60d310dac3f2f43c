"""The smallest rectangles of any direction that hold objects, with corners in the order of DOTA.

Axes: N objects. Coordinates are (column, row) in pixels of the scene.
"""

import numpy as np
import shapely
from numpy.typing import NDArray

from distill.scene.outlines import Polygons

_SAME = 1e-9  # relative difference of areas that rounding explains


def oriented_boxes(exact: Polygons) -> NDArray[np.float64]:
    """Corners x1, y1, ..., x4, y4 (N, 8) of the rectangles of least area that hold polygons.

    The corners run clockwise on a screen. The first is the one that makes the four lie nearest to the corners of the
    upright box, from its top left on, as DOTA's own tools choose it. Where the upright box has the least area, it is
    given, without rounding.

    Args:
        exact: Outlines along the edges of pixels (N,), none empty.

    Source: `get_best_begin_point` of DOTA_devkit.
    """
    upright = shapely.bounds(exact)
    sides = upright[:, 2:] - upright[:, :2]
    corners = upright[:, [[0, 1], [2, 1], [2, 3], [0, 3]]].reshape(-1, 4, 2)
    hulls = shapely.oriented_envelope(exact)
    smaller = shapely.area(hulls) < sides.prod(axis=1) * (1 - _SAME)
    turned = shapely.get_coordinates(shapely.orient_polygons(hulls[smaller])).reshape(-1, 5, 2)[:, :4]
    orders = np.stack([np.roll(turned, -first, axis=1) for first in range(4)], axis=1)  # (n, 4 orders, 4 corners, 2)
    away = np.linalg.norm(orders - corners[smaller][:, None], axis=-1).sum(axis=-1)
    best = np.lexsort([np.broadcast_to(orders[:, :, 0, 0], away.shape), orders[:, :, 0, 1], away.round(6)], axis=1)[
        :, 0
    ]
    corners[smaller] = orders[np.arange(len(best)), best]
    return corners.reshape(-1, 8)
