"""Noise and masks on the student's input in a distillation, and the control of their strength.

A reconstruction. RS4D (arXiv 2606.25324) names "adaptive noise and masking" and its runs carry two percentages
(`noise_20_20`, `30_30`, `10_0`, `0_10`), but its distillation code is unpublished.
"""

from distill.tasks.corruption.module import Corruption as Corruption
from distill.tasks.corruption.patches import from_patches as from_patches
from distill.tasks.corruption.patches import to_patches as to_patches
from distill.tasks.corruption.settings import CorruptionSettings as CorruptionSettings
