"""GeM against a plain loop written from equation 3 of Radenović et al."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tscm_core.models.pooling import GeM


def plain_gem(features, p, eps):
    batch, channels, height, width = features.shape
    pooled = np.zeros((batch, channels))
    for b in range(batch):
        for c in range(channels):
            total = 0.0
            for y in range(height):
                for x in range(width):
                    total += max(float(features[b, c, y, x]), eps) ** p
            pooled[b, c] = (total / (height * width)) ** (1.0 / p)
    return pooled


@pytest.mark.parametrize("p", [1.0, 2.5, 3.0, 7.0])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 5, 3, 4), (3, 2, 1, 7)])
def test_gem_equals_a_plain_loop(p, shape):
    features = np.random.default_rng(0).normal(0.5, 1.0, shape)
    pool = GeM(p, eps=1e-4).double()
    pooled = pool(torch.from_numpy(features))
    assert pooled.shape == shape[:2]
    assert pooled.detach().numpy() == pytest.approx(plain_gem(features, p, 1e-4), rel=1e-10)


def test_p_one_is_the_mean_and_large_p_the_maximum():
    features = torch.rand(2, 4, 5, 6, dtype=torch.float64) + 0.1
    assert torch.allclose(GeM(1.0).double()(features), features.mean(dim=(2, 3)))
    assert torch.allclose(GeM(400.0).double()(features), features.amax(dim=(2, 3)), rtol=0.02)


def test_p_is_learnt_and_dead_channels_are_no_trouble():
    pool = GeM()
    assert [tuple(parameter.shape) for parameter in pool.parameters()] == [(1,)]
    pool(torch.zeros(2, 3, 4, 4)).sum().backward()
    assert torch.isfinite(pool.p.grad).all()
