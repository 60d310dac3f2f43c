"""Rasters of any size: windows of pixels, objects merged across tiles, class mosaics, polygons, resumption."""
