"""ResNet 18/34/50 without pooling and classifier, with torchvision's parameter names.

Ours, because the names are what matters: a torchvision ImageNet file and a Simple Baselines 2D-pose file (recipe 2) both
load into it by name. `width` and `output_stride` make the small networks that train on CPUs: half the channels, and
a last stage that keeps the resolution so that a 128x96 crop still ends in an 8x6 map.

Shapes: B batch, C channels, H and W rows and columns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STAGE_BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
STAGE_CHANNELS = (64, 128, 256, 512)
LEAST_CHANNELS = 16
"""With 8, oneDNN's backward of a strided 1x1 convolution writes beyond its buffer (torch 2.13, channels last, odd batch, AVX-512)."""


def _conv(in_channels: int, out_channels: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, size, stride=stride, padding=size // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (ResNet 18 and 34)."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _shortcut(in_channels, channels, stride)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out = torch.relu_(self.bn1(self.conv1(x_BCHW)))
        out = self.bn2(self.conv2(out))
        return torch.relu_(out + (x_BCHW if self.downsample is None else self.downsample(x_BCHW)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (ResNet 50); the stride sits in the 3x3, as in torchvision."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = _conv(channels, channels * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.downsample = _shortcut(in_channels, channels * self.expansion, stride)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out = torch.relu_(self.bn1(self.conv1(x_BCHW)))
        out = torch.relu_(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return torch.relu_(out + (x_BCHW if self.downsample is None else self.downsample(x_BCHW)))


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(_conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


class ResNet(nn.Module):
    """Feature map (B, out_channels, H/output_stride, W/output_stride) of a float image (B, 3, H, W).

    `width` scales every channel count. With `output_stride` 16 the last stage has stride 1 (no dilation).
    """

    def __init__(self, name: str, width: float = 1.0, output_stride: int = 32) -> None:
        super().__init__()
        block = Bottleneck if name == "resnet50" else BasicBlock
        channels = [max(LEAST_CHANNELS, round(c * width)) for c in STAGE_CHANNELS]
        strides = (1, 2, 2, 1 if output_stride == 16 else 2)
        self.conv1 = _conv(3, channels[0], 7, 2)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        last = channels[0]
        for stage, (count, stage_channels, stride) in enumerate(zip(STAGE_BLOCKS[name], channels, strides, strict=True), start=1):
            blocks = []
            for index in range(count):
                blocks.append(block(last, stage_channels, stride if index == 0 else 1))
                last = stage_channels * block.expansion
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.out_channels = last
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x_B3HW: Tensor) -> Tensor:
        x = self.maxpool(torch.relu_(self.bn1(self.conv1(x_B3HW))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))
