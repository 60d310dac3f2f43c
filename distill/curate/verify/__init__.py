"""Checks of data sets: files, records, masks, classes and splits, collected in a report."""

from distill.curate.verify.instances import verify_instances
from distill.curate.verify.landcover import verify_landcover
from distill.curate.verify.layout import Part, find_parts, parts_of

__all__ = ["Part", "find_parts", "parts_of", "verify_instances", "verify_landcover"]
