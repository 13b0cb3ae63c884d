"""What every network for place recognition has in common: a trunk, a head, and what is needed to build it again.

The descriptor is ``normalise(head(trunk(image)))``; with a frozen trunk its features can be computed once and kept, and
only the head is trained on them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar

from torch import Tensor, nn

from tscm_core.models.spec import Spec

Rgb = tuple[float, float, float]

IMAGENET_MEAN: Rgb = (0.485 * 255, 0.456 * 255, 0.406 * 255)
"""Mean of ImageNet's RGB values 0 to 255: what torchvision's networks are trained with."""
IMAGENET_STD: Rgb = (0.229 * 255, 0.224 * 255, 0.225 * 255)


class Network(nn.Module, ABC):
    """Images to unit-length descriptors.

    Images are float32 ``[B, 3, H, W]``: RGB values 0 to 255, less ``mean``, divided by ``std``.
    """

    trunk_parts: ClassVar[tuple[str, ...]] = ("trunk",)
    """Names of the submodules that ``features`` runs; all others belong to the head."""

    dim: int
    """Numbers in a descriptor."""
    mean: Rgb = IMAGENET_MEAN
    std: Rgb = IMAGENET_STD
    input_size: tuple[int, int] = (224, 224)
    """Width and height that images are resized to when nothing else is asked for."""
    spec: Spec

    @classmethod
    @abstractmethod
    def from_spec(cls, spec: Mapping[str, object]) -> Network:
        """The network that ``spec`` describes, with random weights; keys that are left out take their defaults.

        Raises:
            ConfigError: a key is unknown, or a value is of the wrong type or out of range.
        """

    @abstractmethod
    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """What the trunk makes of normalised images ``[B, 3, H, W]``: tensors whose first dimension is B."""

    @abstractmethod
    def head(self, *features: Tensor) -> Tensor:
        """What ``features`` returned to descriptors ``[B, dim]`` of unit length."""

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images ``[B, 3, H, W]`` to descriptors ``[B, dim]`` of unit length."""
        return self.head(*self.features(images))

    @property
    def architecture(self) -> str:
        """Short name of what was built, for file and model names: ``teacher-resnet50``."""
        return "-".join(str(self.spec[key]) for key in ("name", "trunk") if key in self.spec)

    def trunk_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that ``features`` depends on."""
        return (weight for name, weight in self.named_parameters() if self._is_of_trunk(name))

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """All the other parameters."""
        return (weight for name, weight in self.named_parameters() if not self._is_of_trunk(name))

    def _is_of_trunk(self, name: str) -> bool:
        return name.split(".", 1)[0] in self.trunk_parts
