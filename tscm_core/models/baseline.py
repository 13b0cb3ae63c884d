"""What a network must beat: a trunk with its ImageNet weights and GeM, never trained on places.

Radenović, Tolias and Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2019,
https://arxiv.org/abs/1711.02512, without the fine-tuning.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from tscm_core.models.mobile import EfficientNetLite0
from tscm_core.models.network import Network
from tscm_core.models.pooling import GeM
from tscm_core.models.spec import read_spec
from tscm_core.models.trunks import TRUNKS


class Baseline(Network):
    """EfficientNet-Lite0 and GeM: 3.4 M parameters, descriptors of 1280 numbers, any input size."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = {"name": "baseline", "input_size": [320, 240]}
        _, self.mean, self.std = TRUNKS["efficientnet_lite0"]
        self.input_size = (320, 240)
        self.trunk = EfficientNetLite0()
        self.pool = GeM()
        self.dim = self.trunk.out_channels

    @classmethod
    def from_spec(cls, spec: Mapping[str, object]) -> Baseline:
        """See ``Network.from_spec``."""
        read_spec(spec, {"name": "baseline", "input_size": [320, 240]}, {"input_size": ([320, 240],)})
        return cls()

    @property
    def architecture(self) -> str:
        """As it has always been called in the maps that were made with it."""
        return "efficientnet_lite0-gem"

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images ``[B, 3, H, W]`` to the trunk's map ``[B, 1280, H / 32, W / 32]``."""
        return (self.trunk(images),)

    def head(self, *features: Tensor) -> Tensor:
        """The map to ``[B, 1280]``."""
        return functional.normalize(self.pool(features[0]), dim=1)
