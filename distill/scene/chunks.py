"""Pieces of a few million pixels that a large window is worked on in, so that no temporary array is large."""

from collections.abc import Iterator

PIECE = 2_000_000  # pixels


def piece_shape(block: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """Height and width of pieces of about `PIECE` pixels of an image.

    They are made of whole blocks, the rectangles that the file is stored in, so that none is decoded twice.

    Args:
        block: Height and width of the blocks.
        height: Of the image.
        width: Of the image.
    """
    rows, columns = min(block[0], height), min(block[1], width)
    columns = min(width, columns * max(1, PIECE // (rows * columns)))
    if rows * columns > PIECE:  # the whole image can be one block
        return max(1, PIECE // columns), columns
    return min(height, rows * max(1, PIECE // (rows * columns))), columns


def pieces(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    """Cuts a range at the multiples of `step`."""
    while start < stop:
        end = min(stop, start - start % step + step)
        yield start, end
        start = end
