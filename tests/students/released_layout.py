"""EfficientViT as its authors lay it out: their module tree, names and order of operations, to generate state dicts.

Written from the released names and the papers, apart from the students it is compared with. Depths count as released:
with the strided block in the first two stages of B, without it elsewhere.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Conv(nn.Module):
    def __init__(self, cin, cout, k=1, stride=1, groups=1, bias=False, norm=True, act=None, eps=1e-5):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, k, stride, k // 2, groups=groups, bias=bias)
        if norm:
            self.norm = nn.BatchNorm2d(cout, eps)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = self.norm(x) if hasattr(self, "norm") else x
        return self.act(x) if self.act else x


class Ops(nn.Module):
    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.op_list = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        for module in self.op_list:
            x = module(x)
        return x


class Chain(nn.Module):
    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.children():
            x = part(x)
        return x


class Residual(nn.Module):
    def __init__(self, main: nn.Module, shortcut: bool = True) -> None:
        super().__init__()
        self.main, self.shortcut = main, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + x if self.shortcut else self.main(x)


class Resize(nn.Module):
    def __init__(self, factor: float | None = None, size: int | None = None) -> None:
        super().__init__()
        self.factor, self.size = factor, size

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, self.size, self.factor, mode="bicubic", align_corners=False)


class Attention(nn.Module):
    """Linear form above d tokens, quadratic form up to d."""

    def __init__(self, channels: int, dim: int, scale: int, eps: float) -> None:
        super().__init__()
        self.dim, total = dim, 3 * channels
        self.qkv = Conv(channels, total, norm=False)
        depthwise = nn.Conv2d(total, total, scale, padding=scale // 2, groups=total, bias=False)
        grouped = nn.Conv2d(total, total, 1, groups=3 * channels // dim, bias=False)
        self.aggreg = nn.ModuleList([nn.ModuleList([depthwise, grouped])])
        self.proj = Conv(2 * channels, channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        depthwise, grouped = self.aggreg[0]
        both = torch.cat([qkv, grouped(depthwise(qkv))], 1)
        out = []
        for q, k, v in (head.split(self.dim, 1) for head in both.flatten(2).split(3 * self.dim, 1)):
            q, k = F.relu(q), F.relu(k)
            if q.shape[-1] > self.dim:
                padded = F.pad(v, (0, 0, 0, 1), value=1.0)
                weighted = torch.einsum("ban,bcn->bac", padded, k) @ q
                out.append(weighted[:, :-1] / (weighted[:, -1:] + 1e-15))
            else:
                similarity = torch.einsum("bcj,bci->bji", k, q)
                out.append(v @ (similarity / (similarity.sum(1, keepdim=True) + 1e-15)))
        return self.proj(torch.cat(out, 1).unflatten(2, x.shape[-2:]))


class Blocks:
    def __init__(self, act: Callable[[Tensor], Tensor], eps: float) -> None:
        self.act, self.eps = act, eps

    def conv(self, *args, **kwargs):
        return Conv(*args, act=self.act, eps=self.eps, **kwargs)

    def plain(self, *args, **kwargs):
        return Conv(*args, eps=self.eps, **kwargs)

    def mbconv(self, cin, cout, expand, stride=1, fewer=False):
        mid, first = cin * expand, {"bias": fewer, "norm": not fewer}
        return Chain(
            inverted_conv=self.conv(cin, mid, **first),
            depth_conv=self.conv(mid, mid, 3, stride, mid, **first),
            point_conv=self.plain(mid, cout),
        )

    def fused(self, cin, cout, expand, stride=1):
        return Chain(spatial_conv=self.conv(cin, cin * expand, 3, stride), point_conv=self.plain(cin * expand, cout))

    def attention(self, channels, dim, scale, expand):
        context = Attention(channels, dim, scale, self.eps)
        return Chain(
            context_module=Residual(context),
            local_module=Residual(self.mbconv(channels, channels, expand, fewer=True)),
        )


class BackboneB(nn.Module):
    def __init__(self, widths, depths, dim, eps=1e-5):
        super().__init__()
        make = Blocks(F.hardswish, eps)
        w = widths[0]
        light = [Chain(depth_conv=make.conv(w, w, 3, 1, w), point_conv=make.plain(w, w)) for _ in range(depths[0])]
        self.input_stem = Ops(make.conv(3, w, 3, 2), *map(Residual, light))
        self.stages = nn.ModuleList()
        for i in range(4):
            cin, w = widths[i : i + 2]
            blocks = [Residual(make.mbconv(cin, w, 4, 2, fewer=i >= 2), shortcut=False)]
            if i < 2:
                blocks += [Residual(make.mbconv(w, w, 4)) for _ in range(depths[i + 1] - 1)]
            else:
                blocks += [make.attention(w, dim, 5, 4) for _ in range(depths[i + 1])]
            self.stages.append(Ops(*blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        x, maps = self.input_stem(x), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class BackboneL(nn.Module):
    """L with five widths, XL with six."""

    def __init__(self, widths, depths, eps):
        super().__init__()
        make = Blocks(lambda x: F.gelu(x, approximate="tanh"), eps)
        large = len(widths) == 6
        kinds = ["fmb", "fmb", "fmb", "att", "att"] if large else ["fmb", "fmb", "mb", "att"]
        w = widths[0]
        pairs = [Chain(conv1=make.conv(w, w, 3), conv2=make.plain(w, w, 3)) for _ in range(depths[0])]
        self.stages = nn.ModuleList([Ops(make.conv(3, w, 3, 2), *map(Residual, pairs))])
        for i, kind in enumerate(kinds):
            cin, w = widths[i : i + 2]
            expand = 6 if i == len(kinds) - 1 else 4
            if kind == "fmb":
                first, more = make.fused(cin, w, 16, 2), [Residual(make.fused(w, w, 4)) for _ in range(depths[i + 1])]
            else:
                first = make.mbconv(cin, w, 4 * expand, 2, fewer=True)
                more = [
                    make.attention(w, 32, 3 if large else 5, expand)
                    if kind == "att"
                    else Residual(make.mbconv(w, w, expand, fewer=True))
                    for _ in range(depths[i + 1])
                ]
            self.stages.append(Ops(Residual(first, shortcut=False), *more))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[1:]


class Classifier(nn.Module):
    def __init__(self, backbone: nn.Module, width: int, head_widths: tuple[int, int], make: Blocks) -> None:
        super().__init__()
        self.backbone = backbone
        first, second = nn.Module(), nn.Module()
        first.linear = nn.Linear(head_widths[0], head_widths[1], bias=False)
        first.norm = nn.LayerNorm(head_widths[1])
        second.linear = nn.Linear(head_widths[1], 1000)
        self.head = Ops(make.conv(width, head_widths[0]), nn.AdaptiveAvgPool2d(1), first, second)


class Segmenter(nn.Module):
    def __init__(self, backbone, channels, classes, width, depth, block, expand, final_expand, make):
        super().__init__()
        self.backbone, self.head = backbone, nn.Module()
        coarse = [Ops(make.plain(c, width), Resize(factor)) for c, factor in zip(channels[:0:-1], (4, 2), strict=True)]
        self.head.input_ops = nn.ModuleList([*coarse, make.plain(channels[0], width)])
        build = make.fused if block == "fused" else make.mbconv
        self.head.middle = Ops(*(Residual(build(width, width, expand)) for _ in range(depth)))
        wide = width * (final_expand or 1)
        last = Conv(wide, classes, bias=True, norm=False)
        self.head.output_ops = nn.ModuleList([Ops(*([make.conv(width, wide)] if final_expand else []), last)])

    def forward(self, x: Tensor) -> Tensor:
        maps = self.backbone(x)[:0:-1]
        total = sum(op(m) for op, m in zip(self.head.input_ops, maps, strict=True))
        return self.head.output_ops[0](self.head.middle(total))


class SAM(nn.Module):
    """Encoder, and a stand-in for the prompt encoder and the mask decoder."""

    def __init__(self, backbone: nn.Module, channels: list[int], depth: int, expand: int, grid: int = 64) -> None:
        super().__init__()
        make = Blocks(lambda x: F.gelu(x, approximate="tanh"), 1e-6)
        self.image_encoder = encoder = nn.Module()
        encoder.backbone, encoder.neck = backbone, nn.Module()
        encoder.neck.input_ops = nn.ModuleList(Ops(make.plain(c, 256), Resize(size=grid)) for c in reversed(channels))
        encoder.neck.middle = Ops(*(Residual(make.fused(256, 256, expand)) for _ in range(depth)))
        encoder.neck.output_ops = nn.ModuleList([Ops(Conv(256, 256, bias=True, norm=False))])
        encoder.norm = nn.LayerNorm(256, 1e-6)
        self.prompt_encoder, self.mask_decoder = nn.Embedding(1, 256), nn.Linear(256, 4)

    def forward(self, x: Tensor) -> Tensor:
        encoder = self.image_encoder
        maps = reversed(encoder.backbone(x)[-3:])
        total = sum(op(m) for op, m in zip(encoder.neck.input_ops, maps, strict=True))
        x = encoder.neck.output_ops[0](encoder.neck.middle(total))
        return encoder.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def shuffle_norms(module: nn.Module) -> nn.Module:
    """Gives batch norms statistics and factors that a mistaken ε or order would show in; returns it in eval mode."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0, 0.1)
    return module.eval()
