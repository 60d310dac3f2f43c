"""LoveDA: land cover in aerial images of three Chinese cities, in the layout of the download."""

from typing import Any

from distill.data.semantic import SemanticFolder


class LoveDA(SemanticFolder):
    """LoveDA: aerial images of three Chinese cities at 0.3 m, 1024 x 1024 pixels, seven classes, urban and rural.

    Layout: `<root>/{Train,Val}/{Urban,Rural}/{images_png,masks_png}/*.png`. The labels of `Test` are not published, so
    validation and test are the same images unless `val_fraction` holds out some of train.

    Args:
        root: The data set's folder.
        **kwargs: Everything that `SemanticImages` takes, except the classes.

    Source: Wang et al., "LoveDA: A Remote Sensing Land-Cover Dataset for Domain Adaptive Semantic Segmentation",
    NeurIPS 2021 Datasets and Benchmarks (https://arxiv.org/abs/2110.08733).
    """

    def __init__(self, root: str, **kwargs: Any) -> None:
        names = ("background", "building", "road", "water", "barren", "forest", "agriculture")
        super().__init__(
            root=root,
            classes={name: index for index, name in enumerate(names, start=1)},
            ignore=[0],
            train=["Train/Urban", "Train/Rural"],
            val=["Val/Urban", "Val/Rural"],
            test=None,
            images="images_png",
            masks="masks_png",
            **kwargs,
        )
