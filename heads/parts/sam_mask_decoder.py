"""SAM's mask decoder: prompts and an image embedding to masks; trainable, loads the official weights.

Axes: R prompts, K tokens of a prompt, T all tokens, C channels, h w grid of the image embedding, M masks of a prompt.

Source: Kirillov et al., "Segment Anything" (https://arxiv.org/abs/2304.02643), appendix A, and the layout of the
weights in facebookresearch/segment-anything. Own code; `tests/heads/parts/test_sam_mask_decoder.py` compares both.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from distill.contracts import Component
from distill.errors import UserError
from distill.weights import load_matching, read_state_dict
from heads.parts.norms import layer_norm
from heads.parts.sam_transformer import TwoWayTransformer

_MASKS = 4  # one for an unambiguous prompt, and three for whole, part and subpart
_DECODER = "mask_decoder."
# Parts of the prompt encoder that belong to this decoder: the official name, and the name here.
_PROMPT_ENCODER = {
    "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": "frequencies",
    "prompt_encoder.no_mask_embed.weight": "no_mask_embed.weight",
}


class MaskDecoder(Component):
    """Masks of prompts on one image, at a quarter of the image embedding's stride, and an estimate of their IoU.

    Its names are those of `mask_decoder` in the official checkpoints; the two parts of `prompt_encoder` that every
    prompt needs, the code of places and the embedding that stands for "no mask given", are part of it.

    Args:
        channels: C; 256 in the official weights, a multiple of 16.
        depth: Blocks of the transformer; 2 in the official weights.
        heads: Heads of its attentions; 8 in the official weights.

    Raises:
        UserError: Channels that cannot be divided among the heads.
    """

    def __init__(self, channels: int = 256, depth: int = 2, heads: int = 8) -> None:
        super().__init__()
        if channels % (2 * heads) or channels % 8:
            raise UserError(
                f"model.head.decoder_channels is {channels}; it must be a multiple of {math.lcm(2 * heads, 8)} "
                "(256 for the official weights)"
            )
        quarter, eighth = channels // 4, channels // 8
        self.transformer = TwoWayTransformer(channels, depth, heads)
        self.iou_token = nn.Embedding(1, channels)
        self.mask_tokens = nn.Embedding(_MASKS, channels)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(channels, quarter, 2, 2),
            layer_norm(quarter),
            nn.GELU(),
            nn.ConvTranspose2d(quarter, eighth, 2, 2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(_Perceptron(channels, eighth) for _ in range(_MASKS))
        self.iou_prediction_head = _Perceptron(channels, _MASKS)
        self.no_mask_embed = nn.Embedding(1, channels)
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.randn(2, channels // 2))

    def no_weight_decay(self) -> set[str]:
        """Tokens and embeddings, which are inputs and not weights of a linear map."""
        return {"iou_token.weight", "mask_tokens.weight", "no_mask_embed.weight"}

    def train_single_mask_only(self) -> None:
        """Freezes the parts that a single mask does not use: the MLPs of the other three masks and the IoU estimate."""
        self.output_hypernetworks_mlps[1:].requires_grad_(False)
        self.iou_prediction_head.requires_grad_(False)

    def load(self, path: str) -> None:
        """Loads an official checkpoint of SAM, of whichever size: all have the same decoder.

        Args:
            path: `sam_vit_b_01ec64.pth`, its siblings, or any file with names `mask_decoder.*` and `prompt_encoder.*`.

        Raises:
            UserError: No such file, or one without SAM's mask decoder.
        """
        given = read_state_dict(path)
        state = {name.removeprefix(_DECODER): tensor for name, tensor in given.items() if name.startswith(_DECODER)}
        if not state or not _PROMPT_ENCODER.keys() <= given.keys():
            raise UserError(
                f"decoder_checkpoint {path!r} holds no SAM mask decoder: names mask_decoder.* and prompt_encoder.* are "
                "missing; use an official file, such as sam_vit_b_01ec64.pth, or null to start from random weights"
            )
        load_matching(self, state | {own: given[name] for name, own in _PROMPT_ENCODER.items()}, path)

    def positions(self, height: int, width: int) -> Tensor:
        """Position codes (1, C, h, w) of a grid: sines and cosines of random frequencies at cell centres."""
        rows, columns = (
            2 * (torch.arange(count, device=self.frequencies.device, dtype=torch.float32) + 0.5) / count - 1
            for count in (height, width)
        )
        phase = rows[:, None, None] * self.frequencies[1] + columns[:, None] * self.frequencies[0]
        phase = 2 * math.pi * phase
        return torch.cat([phase.sin(), phase.cos()], dim=-1).permute(2, 0, 1)[None]

    def forward(self, image: Tensor, prompts: Tensor, several: bool = False) -> tuple[Tensor, Tensor]:
        """Masks of every prompt.

        Args:
            image: Embedding (1, C, h, w) of the one image that all prompts are about.
            prompts: (R, K, C).
            several: Whether to give the three masks of an ambiguous prompt instead of one.

        Returns:
            Logits (R, M, 4 h, 4 w) and estimated IoUs (R, M).
        """
        wanted = slice(1, None) if several else slice(0, 1)
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        # Not `len`: an exported graph does not know how many there are.
        tokens = torch.cat([own.expand(prompts.shape[0], -1, -1), prompts], dim=1)
        without_mask = image + self.no_mask_embed.weight[..., None, None]
        tokens, seen = self.transformer(without_mask, self.positions(*image.shape[2:]), tokens)
        upscaled = self.output_upscaling(seen.transpose(1, 2).unflatten(2, image.shape[2:]))
        kernels = [
            perceptron(tokens[:, 1 + index])
            for index, perceptron in list(enumerate(self.output_hypernetworks_mlps))[wanted]
        ]
        masks = torch.einsum("rmc,rchw->rmhw", torch.stack(kernels, dim=1), upscaled)
        return masks, self.iou_prediction_head(tokens[:, 0])[:, wanted]


class _Perceptron(nn.Module):
    """Three linear layers with ReLUs between them."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        widths = (channels, channels, channels, out_channels)
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = layer(x).relu()
        return last(x)
