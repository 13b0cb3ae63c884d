"""Powers written as logarithm and exponential, only where they may be."""

import pytest
import torch
from torch import nn

from tscm_core.deploy.powers import quicken_powers
from tscm_core.models.pooling import GeM

aten = torch.ops.aten


class Bare(nn.Module):
    """A power of numbers that may be below zero, where only the power itself is defined."""

    def forward(self, x):
        return x.pow(torch.tensor([2.0]))


def exported(module, x):
    return torch.export.export(module.eval(), (x,), strict=False)


def targets(program):
    return [node.target for node in program.graph.nodes]


def test_a_power_of_what_was_clamped_gives_the_same_numbers():
    pooling, x = GeM(2.7), torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0)) * 9 - 1
    program = exported(pooling, x)
    assert quicken_powers(program) == 1
    assert targets(program).count(aten.exp.default) == 1
    torch.testing.assert_close(program.module()(x), pooling(x), rtol=1e-6, atol=0)


@pytest.mark.parametrize("module", [Bare(), GeM(3.0, eps=0.0)], ids=["no clamp", "a clamp at zero"])
def test_a_power_of_what_may_have_no_logarithm_is_left_alone(module):
    x = torch.linspace(-2, 2, 12).view(1, 1, 3, 4)
    program = exported(module, x)
    assert quicken_powers(program) == 0
    assert aten.log.default not in targets(program)
    torch.testing.assert_close(program.module()(x), module(x), rtol=0, atol=0)
