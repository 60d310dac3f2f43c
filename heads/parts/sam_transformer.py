"""The two-way transformer of SAM's mask decoder: a few tokens and an image attend to each other.

Axes: R prompts, T tokens, N cells of the image embedding, C channels, h w its grid. The image belongs to all prompts,
so its axis R may be 1: what does not depend on the prompt is then computed once.

Source: Kirillov et al., "Segment Anything" (https://arxiv.org/abs/2304.02643), appendix A, and the layout of the
weights in facebookresearch/segment-anything.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention whose inner width is a fraction of the channels.

    Args:
        channels: C.
        heads: Number of heads.
        reduction: C over the inner width.
    """

    def __init__(self, channels: int, heads: int, reduction: int = 1) -> None:
        super().__init__()
        width = channels // reduction
        self.heads = heads
        self.q_proj = nn.Linear(channels, width)
        self.k_proj = nn.Linear(channels, width)
        self.v_proj = nn.Linear(channels, width)
        self.out_proj = nn.Linear(width, channels)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Maps queries (R or 1, T, C), keys and values (R or 1, N, C) to (R, T, C)."""
        query, key, value = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (R, heads, T or N, width of a head)
            for projection, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        prompts = key.shape[0] if query.shape[0] == 1 else query.shape[0]
        query, key, value = (x.expand(prompts, -1, -1, -1) for x in (query, key, value))
        return self.out_proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class TwoWayBlock(nn.Module):
    """Self-attention of tokens, tokens to image, an MLP on tokens, image to tokens; a norm after each.

    Args:
        channels: C.
        heads: Heads of every attention.
        first: Whether this is the first block, where tokens are still their own positions and nothing is added to.
    """

    def __init__(self, channels: int, heads: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(channels, heads)
        self.norm1 = nn.LayerNorm(channels)
        self.cross_attn_token_to_image = Attention(channels, heads, reduction=2)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential()
        self.mlp.add_module("lin1", nn.Linear(channels, 8 * channels))
        self.mlp.add_module("act", nn.ReLU())
        self.mlp.add_module("lin2", nn.Linear(8 * channels, channels))
        self.norm3 = nn.LayerNorm(channels)
        self.cross_attn_image_to_token = Attention(channels, heads, reduction=2)
        self.norm4 = nn.LayerNorm(channels)

    def forward(
        self, tokens: Tensor, image: Tensor, token_positions: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Updates tokens (R, T, C) and image (R or 1, N, C), given the positions of both."""
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + token_positions
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.norm1(tokens)
        placed_image = image + positions
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_positions, placed_image, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(placed_image, tokens + token_positions, tokens))
        return tokens, image


class TwoWayTransformer(nn.Module):
    """Two-way blocks, then a final attention from tokens to image.

    Args:
        channels: C.
        depth: Number of blocks.
        heads: Heads of every attention.
    """

    def __init__(self, channels: int = 256, depth: int = 2, heads: int = 8) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(channels, heads, first=i == 0) for i in range(depth))
        self.final_attn_token_to_image = Attention(channels, heads, reduction=2)
        self.norm_final_attn = nn.LayerNorm(channels)

    def forward(self, image: Tensor, positions: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the updated tokens and image.

        Args:
            image: (1, C, h, w).
            positions: Code of each cell's place, (1, C, h, w).
            tokens: (R, T, C).

        Returns:
            Tokens (R, T, C) and image (R, N, C).
        """
        image, positions = (x.flatten(2).transpose(1, 2) for x in (image, positions))
        places = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, places, positions)
        seen = self.final_attn_token_to_image(tokens + places, image + positions, image)
        return self.norm_final_attn(tokens + seen), image
