"""The trunks that a student or a teacher can stand on, each with the normalisation of its published weights."""

from __future__ import annotations

from typing import NamedTuple

from tscm_core.models.mobile import EfficientNetLite, EfficientNetLite0, EfficientNetLite2
from tscm_core.models.network import IMAGENET_MEAN, IMAGENET_STD, Rgb
from tscm_core.models.resnet import ResNet50

_LITE_MEAN, _LITE_STD = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)


class Trunk(NamedTuple):
    """A class of trunk, to be called without arguments, and its mean and standard deviation of RGB values 0 to 255."""

    build: type[ResNet50 | EfficientNetLite]
    mean: Rgb
    std: Rgb


TRUNKS = {
    "resnet50": Trunk(ResNet50, IMAGENET_MEAN, IMAGENET_STD),
    "efficientnet_lite0": Trunk(EfficientNetLite0, _LITE_MEAN, _LITE_STD),
    "efficientnet_lite2": Trunk(EfficientNetLite2, _LITE_MEAN, _LITE_STD),
}
