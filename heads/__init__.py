"""Heads and decoders: neck, losses and inference. The only package that imports MMDetection and SMP.

In a recipe: `class_path: heads.MaskRCNN`. In a plain MMDetection config:
`custom_imports = dict(imports=["heads.mmdet.registered"])`. A new head or decoder is a file here.
"""

from distill.discovery import lazy

__getattr__, __dir__ = lazy(__name__, "HeadBase", "DecoderBase", "TwoStageHead")
