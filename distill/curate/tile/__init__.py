"""Cuts images, with their objects or their labels, into tiles to train on."""

from distill.curate.tile.instances import tile_instances as tile_instances
from distill.curate.tile.labels import tile_labels as tile_labels
from distill.curate.tile.settings import TileSettings as TileSettings
