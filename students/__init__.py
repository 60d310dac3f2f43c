"""Student backbones: every class of this folder that derives from `StudentBase`.

In a recipe: `class_path: students.RS4D`.
"""

from typing import TYPE_CHECKING

from distill.discovery import lazy

if TYPE_CHECKING:
    from students.released_efficientvit import split_released_efficientvit as split_released_efficientvit
    from students.released_rs4d import convert_released_state_dict as convert_released_state_dict

__getattr__, __dir__ = lazy(__name__, "StudentBase")
