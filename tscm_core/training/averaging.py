"""Between a network before and after its training.

Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, https://arxiv.org/abs/2109.01903, equation 1:
``(1 - part) * before + part * after``, weight by weight, keeps of what was learnt what does not cost elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tscm_core.errors import ConfigError
from tscm_core.models.build import build_network
from tscm_core.models.network import Network


def average(before: Network, after: Network, part: float) -> Network:
    """A new network between two, in eval mode.

    Args:
        before: at ``part`` 0.
        after: at ``part`` 1; the same network, trained from ``before`` or from the same start.
        part: 0 to 1.

    Raises:
        ConfigError: the networks are of different kinds, or ``part`` is out of range.
    """
    if not 0.0 <= part <= 1.0:
        raise ConfigError(f"the part of the second network must be between 0 and 1, not {part!r}")
    if before.spec != after.spec:
        raise ConfigError(f"networks of two kinds have no average: {_told(before.spec)} and {_told(after.spec)}")
    first, second = before.state_dict(), after.state_dict()
    mean = build_network(before.spec)
    mean.load_state_dict(
        {name: torch.lerp(one, second[name], part) if one.is_floating_point() else one for name, one in first.items()}
    )
    return mean.eval().requires_grad_(False)


def _told(spec: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in spec.items())
