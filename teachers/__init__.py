"""Frozen teachers: every class of this folder that derives from `TeacherBase`.

In a recipe: `class_path: teachers.ViT`.
"""

from distill.discovery import lazy

__getattr__, __dir__ = lazy(__name__, "TeacherBase")
