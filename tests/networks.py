"""Random small classifiers of every kind of layer that the readers of programs know; the same seed, the same network.

The images have shape (n, 2, 8, 8), the logits (n, 5). `pack` runs several side by side, so that one export tries many.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

IMAGE = (2, 8, 8)
CLASSES = 5


class Apply(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Noisy(nn.Module):
    """A classifier whose logits have noise of a standard deviation, drawn anew at each call."""

    def __init__(self, model: nn.Module, size: float) -> None:
        super().__init__()
        self.model, self.size = model, size

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return logits + self.size * torch.randn(logits.shape)


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.expand(functional.relu(self.reduce(x.mean((2, 3), keepdim=True)))))


class StandardisedConv(nn.Conv2d):
    """Weight standardisation, written as normaliser-free networks write it."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = functional.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-6)
        return functional.conv2d(x, weight.reshape_as(self.weight), self.bias, self.stride, self.padding)


class Attention(nn.Module):
    """A class token, layer scale, and attention by hand."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, channels))
        self.place = nn.Parameter(torch.randn(1, size + 1, channels))
        self.norm, self.qkv = nn.LayerNorm(channels), nn.Linear(channels, 3 * channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.cat([self.token.expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2)], 1) + self.place
        q, k, v = self.qkv(self.norm(h)).chunk(3, -1)
        weights = torch.softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, -1)
        return (h + self.scale * (weights @ v))[:, 0]


class Windows(nn.Module):
    """Shifted windows of two by two."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = torch.roll(x, (1, 1), (2, 3)).view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1)
        windows = x.reshape(-1, 4, c)
        windows = windows - windows.mean(1, keepdim=True) * 0.5
        return windows.view(n, h // 2, w // 2, 2, 2, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)


ACTIVATIONS: tuple[Callable[[random.Random], nn.Module], ...] = (
    lambda r: nn.ReLU(inplace=r.random() < 0.5),
    lambda r: nn.LeakyReLU(r.choice([0.01, 0.2])),
    lambda r: nn.ELU(r.choice([1.0, 0.7])),
    lambda r: nn.CELU(r.choice([1.0, 0.7])),
    lambda r: nn.SELU(),
    lambda r: nn.GELU(approximate=r.choice(["none", "tanh"])),
    lambda r: nn.SiLU(),
    lambda r: nn.Softplus(),
    lambda r: nn.Softsign(),
    lambda r: nn.Tanh(),
    lambda r: nn.Sigmoid(),
    lambda r: nn.Hardswish(),
    lambda r: nn.Hardsigmoid(),
    lambda r: nn.Hardtanh(-0.3, 0.6),
    lambda r: nn.ReLU6(),
    lambda r: nn.PReLU(),
    lambda r: nn.LogSigmoid(),
    lambda r: nn.Softshrink(0.1),
    lambda r: Apply(lambda x: x.clamp(min=-0.2)),
    lambda r: Apply(lambda x: x / (1 + x.abs())),
    lambda r: Apply(lambda x: torch.where(x > 0.1, x, 0.5 * x)),
    lambda r: Apply(lambda x: torch.sqrt(x * x + 0.1).pow(2)),
    lambda r: nn.Dropout(),
)


def _convolution(r: random.Random, c: int, h: int) -> nn.Module:
    out = r.choice([2, 4])
    k = r.choice([1, 2, 3])
    groups = r.choice([1, 2]) if c % 2 == 0 else 1
    return nn.Conv2d(
        c, out, k, stride=r.choice([1, 1, 2]), padding=r.choice([0, k // 2]), dilation=r.choice([1, 1, 2]),
        groups=groups, bias=r.random() < 0.7, padding_mode=r.choice(["zeros", "zeros", "reflect", "replicate"]),
    )  # fmt: skip


def _pool(r: random.Random, c: int, h: int) -> nn.Module:
    k = r.choice([2, 3])
    if r.random() < 0.5:
        return nn.MaxPool2d(k, r.choice([1, 2]), r.choice([0, k // 2]), r.choice([1, 1, 2]))
    return nn.AvgPool2d(k, r.choice([1, 2]), r.choice([0, k // 2]), count_include_pad=r.random() < 0.5)


SPATIAL: tuple[Callable[[random.Random, int, int], nn.Module], ...] = (
    _convolution,
    _convolution,
    lambda r, c, h: nn.ConvTranspose2d(c, 2, r.choice([2, 3]), stride=r.choice([1, 2]), padding=r.choice([0, 1])),
    lambda r, c, h: nn.BatchNorm2d(c),
    lambda r, c, h: nn.GroupNorm(r.choice([1, c]), c),
    lambda r, c, h: nn.InstanceNorm2d(c, affine=r.random() < 0.5),
    lambda r, c, h: nn.LayerNorm([c, h, h]),
    lambda r, c, h: nn.LocalResponseNorm(r.choice([1, 2, 3])),
    _pool,
    _pool,
    lambda r, c, h: nn.AdaptiveAvgPool2d(1 if h % 2 else h // 2),
    lambda r, c, h: nn.Upsample(scale_factor=2, mode="nearest"),
    lambda r, c, h: nn.ZeroPad2d((1, 0, 2, 1)),
    lambda r, c, h: nn.ReflectionPad2d((1, 0, 0, 1)) if h > 1 else nn.Identity(),
    lambda r, c, h: nn.ConstantPad2d((0, 1, 1, 0), 0.5),
    lambda r, c, h: SqueezeExcite(c),
    lambda r, c, h: Residual(nn.Conv2d(c, c, 3, padding=1)),
    lambda r, c, h: StandardisedConv(c, 4, 1),
    lambda r, c, h: Windows() if h % 2 == 0 else nn.Identity(),
    lambda r, c, h: Apply(lambda x: torch.cat([x, -x[:, :1]], 1)),
    lambda r, c, h: Apply(lambda x: x.transpose(2, 3) * 0.5 + 0.1),
    lambda r, c, h: Apply(lambda x: x - x.amax((1, 2, 3), keepdim=True)),
    lambda r, c, h: Apply(lambda x: x[:, :, :-1, 1:] if x.shape[2] > 2 else x),
    lambda r, c, h: Apply(lambda x: torch.stack(x.unbind(1), 1).squeeze().reshape(x.shape) if x.shape[1] > 1 else x),
)


def network(seed: int) -> nn.Module:
    """A random classifier in eval mode: images (n, 2, 8, 8) to logits (n, 5)."""
    r = random.Random(seed)
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    x = torch.rand(2, *IMAGE)
    for _ in range(r.randint(1, 4)):
        layer = r.choice(SPATIAL)(r, x.shape[1], x.shape[2]).eval()
        try:
            y = layer(x)
        except (RuntimeError, ValueError):  # a window larger than what is left of the image
            continue
        if 0 < y.numel() < 4000 and y.shape[2] == y.shape[3]:
            layers.append(layer)
            x = y
        layers.append(r.choice(ACTIVATIONS)(r).eval())
        x = layers[-1](x.clone())
    if r.random() < 0.2:
        layers.append(Attention(x.shape[1], x.shape[2] * x.shape[3]))
    else:
        layers.append(nn.Flatten())
    width = nn.Sequential(*layers).eval()(torch.rand(2, *IMAGE)).shape[1]
    hidden = r.choice([3, 6])
    layers += [nn.Linear(width, hidden), r.choice(ACTIVATIONS)(r)]
    if r.random() < 0.3:
        layers.append(nn.LayerNorm(hidden))
    layers.append(nn.Linear(hidden, CLASSES))
    return _filled(nn.Sequential(*layers)).eval().requires_grad_(False)


def _filled(model: nn.Module) -> nn.Module:
    """Random statistics and scales, which are ones and zeros at first."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.3)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return model


class Pack(nn.Module):
    """Networks side by side: their logits one after the other."""

    def __init__(self, seeds: range) -> None:
        super().__init__()
        self.members = nn.ModuleList([network(seed) for seed in seeds])

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([member(x + 0.0) for member in self.members], 1)
