"""Contact sheets: images of a data set with boxes, masks and class names, or with their classes as colours."""

from distill.curate.preview.instances import contact_sheet
from distill.curate.preview.landcover import class_sheet

__all__ = ["class_sheet", "contact_sheet"]
