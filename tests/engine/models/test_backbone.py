from __future__ import annotations

import pytest
import torch

from engine.models.backbone import ResNet

# torchvision's published parameter counts, with a classifier of 1000 classes.
PUBLISHED = {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_torchvisions_without_the_classifier(name: str) -> None:
    net = ResNet(name)
    classifier = net.out_channels * 1000 + 1000
    assert sum(p.numel() for p in net.parameters()) == PUBLISHED[name] - classifier


def test_parameter_names_are_torchvisions() -> None:
    names = set(ResNet("resnet50").state_dict())
    expected = {"conv1.weight", "bn1.running_mean", "layer1.0.downsample.0.weight", "layer1.0.downsample.1.bias", "layer4.2.conv3.weight"}
    assert expected <= names
    assert "layer1.0.downsample.0.weight" not in ResNet("resnet18").state_dict()
    assert len(names) == 318  # torchvision's 320 without fc.weight and fc.bias


def test_shapes_of_both_strides_and_widths() -> None:
    image = torch.zeros(1, 3, 128, 96)
    assert ResNet("resnet18", 0.5, 16)(image).shape == (1, 256, 8, 6)
    assert ResNet("resnet18", 0.5, 32)(image).shape == (1, 256, 4, 3)
    assert ResNet("resnet50", 0.25, 32)(torch.zeros(1, 3, 256, 192)).shape == (1, 512, 8, 6)


def test_same_weights_at_either_stride() -> None:
    ResNet("resnet18", 0.25, 16).load_state_dict(ResNet("resnet18", 0.25, 32).state_dict())
