"""Networks by name, and what their settings may be."""

from __future__ import annotations

import pytest
import torch

from tscm_core.errors import ConfigError
from tscm_core.models.build import build_network
from tscm_core.models.spec import read_spec
from tscm_core.models.teacher import Teacher

DEFAULTS = {"name": "toy", "dim": 8, "trunk": "small", "size": [4, 3], "bias": True, "share": 0.5}


def test_settings_that_are_left_out_take_their_defaults_in_order():
    spec = read_spec({"dim": 3, "name": "toy"}, DEFAULTS)
    assert spec == {**DEFAULTS, "dim": 3}
    assert list(spec) == list(DEFAULTS)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"dims": 3}, "network toy has no setting dims: did you mean dim"),
        ({"whatever": 3}, "has no setting whatever: there are name, dim, trunk"),
        ({"dim": 3.0}, "setting dim of network toy must be of type int, not 3.0"),
        ({"dim": True}, "must be of type int, not True"),
        ({"dim": None}, "must be of type int, not None"),
        ({"dim": 0}, "must be at least 1, not 0"),
        ({"trunk": "big"}, "setting trunk of network toy must be one of small, large, not 'big'"),
        ({"trunk": ["small"]}, "must be one of"),
        ({"size": [4]}, r"must be 2 numbers like \[4, 3\], not \[4\]"),
        ({"size": [4, "3"]}, "must be 2 numbers"),
        ({"size": [4, -1]}, "must be at least 1"),
        ({"bias": 1}, "must be of type bool"),
    ],
)
def test_other_settings_are_refused_in_a_sentence(spec, said):
    with pytest.raises(ConfigError, match=said):
        read_spec(spec, DEFAULTS, {"trunk": ("small", "large")})


@pytest.mark.parametrize("name", [None, "", "Teacher", 3, [], "resnet50"])
def test_unknown_names_are_refused(name):
    with pytest.raises(ConfigError, match="name one of student, baseline, teacher, released_student, released_teacher"):
        build_network({"name": name})
    with pytest.raises(ConfigError):
        build_network({})


def test_a_network_is_built_again_from_its_spec():
    with torch.device("meta"):
        network = build_network({"name": "teacher", "trunk": "efficientnet_lite2", "second": "trunk", "clusters": 3})
        again = build_network(network.spec)
    assert isinstance(again, Teacher)
    assert again.spec == network.spec
    assert next(iter(network.spec)) == "name"
    shapes = [{name: tensor.shape for name, tensor in net.state_dict().items()} for net in (network, again)]
    assert shapes[0] == shapes[1]
    assert network.architecture == "teacher-efficientnet_lite2"
