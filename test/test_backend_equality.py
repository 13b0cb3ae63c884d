"""Every backend that works here says of real images what eager PyTorch says."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from shared_data import network, shared

from tscm_core.config import ModelConfig
from tscm_core.datasets.positions import list_images
from tscm_core.deploy.load import build_engine
from tscm_core.errors import DeployError
from tscm_core.evaluation.describe import read_rgb

pytestmark = pytest.mark.shared_data
CORRIDOR, CAMPUS, TOWER = "corridor_two_laps", "campus_walk", "tower_videos"
LAP, WITHIN = 40, 2
COUNTS = {CORRIDOR: 80, CAMPUS: 60, TOWER: 60}


@functools.cache
def images():
    """Two hundred: two laps of a corridor, a walk outdoors, and frames from all over a tower."""
    chosen = []
    for name, count in COUNTS.items():
        files = list_images(shared(name) / "images")
        step = 1 if name == CORRIDOR else len(files) / count
        chosen += [read_rgb(files[int(number * step)]) for number in range(count)]
    return chosen


@functools.cache
def eager():
    return network().describe(images())


def recall_at_1(descriptors):
    """The second lap of the corridor against the first; the places of a lap are numbered."""
    first, second = descriptors[:LAP], descriptors[LAP : 2 * LAP]
    return np.mean([abs(int(np.argmax(first @ row)) - place) <= WITHIN for place, row in enumerate(second)])


@pytest.mark.parametrize("backend", ["onnxruntime", pytest.param("inductor", marks=pytest.mark.slow), "tensorrt"])
def test_real_images_get_the_descriptors_of_eager_pytorch(backend):
    try:
        built = build_engine(ModelConfig(backend=backend))
    except DeployError as error:
        if backend == "onnxruntime":
            raise
        pytest.skip(str(error))
    found = built.describer.describe(images())
    assert len(found) == 200
    assert built.describer.model_id == network().model_id
    distances = 1 - np.sum(found.astype(np.float64) * eager(), axis=1)
    assert distances.max() < (1e-3 if built.target.precision == "fp16" else 1e-5)
    assert recall_at_1(found) == recall_at_1(eager()) > 0.9
