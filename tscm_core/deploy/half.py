"""Half precision where it pays and does no harm: in the trunk."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from tscm_core.errors import DeployError
from tscm_core.models.network import Network


def half_trunk(network: Network) -> Network:
    """A copy of ``network`` whose trunk computes in float16; all before and after it stays float32.

    Nearly all the work is in the trunk's convolutions. Exposure, powers, norms and softmax are not: a power of 3 of
    what GeM clamps at 1e-6, or the sum of squares over a map, is beyond what float16 can hold.

    Raises:
        DeployError: the network has no part called ``trunk``.
    """
    trunk = getattr(network, "trunk", None)
    if not isinstance(trunk, nn.Module):
        raise DeployError(f"the network {network.architecture} has no trunk to be run in fp16: use precision fp32")
    halved = copy.deepcopy(network)
    halved.trunk = _HalfTrunk(copy.deepcopy(trunk))
    return halved


class _HalfTrunk(nn.Module):
    """Float32 in, float32 out, float16 between."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk.half()

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Images ``[B, 3, H, W]`` to the trunk's map, or its maps, as the trunk gives them."""
        maps = self.trunk(images.half())
        return maps.float() if isinstance(maps, Tensor) else tuple(part.float() for part in maps)
