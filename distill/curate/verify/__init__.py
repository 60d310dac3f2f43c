"""Is a data set what it seems? Every check over files, records, masks, classes and splits, as a report to act on."""

from distill.curate.verify.instances import verify_instances
from distill.curate.verify.landcover import verify_landcover
from distill.curate.verify.layout import Part, find_parts, parts_of

__all__ = ["Part", "find_parts", "parts_of", "verify_instances", "verify_landcover"]
