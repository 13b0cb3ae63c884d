"""What is compiled says of bytes what the network says of normalised numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_toys import HEIGHT, WIDTH, ToyNetwork

from tscm_core.deploy.export import INPUT, OUTPUT, images_to_onnx
from tscm_core.deploy.graph import DescribeImages


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = ToyNetwork(dropout=0.5)
    network.mean, network.std = (100.0, 120.0, 140.0), (50.0, 60.0, 80.0)
    return network.eval().requires_grad_(False)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH, 3), np.uint8)


def expected(network, images):
    """Number by number."""
    pixels = np.zeros((len(images), 3, HEIGHT, WIDTH), np.float32)
    for number, row, column, channel in np.ndindex(images.shape):
        value = (float(images[number, row, column, channel]) - network.mean[channel]) / network.std[channel]
        pixels[number, channel, row, column] = value
    return network(torch.from_numpy(pixels)).numpy()


def test_bytes_are_normalised_and_described(network, images):
    graph = DescribeImages(network)
    assert graph(torch.from_numpy(images)).numpy() == pytest.approx(expected(network, images), abs=1e-6)
    assert set(graph.state_dict()) == {f"network.{name}" for name in network.state_dict()}  # nothing to load besides


def test_nothing_is_dropped_out(network, images):
    network.train()
    graph, bytes_ = DescribeImages(network), torch.from_numpy(images)
    assert torch.equal(graph(bytes_), graph(bytes_))


def test_as_onnx_it_takes_any_number_of_images(network, images):
    import onnxruntime

    model = images_to_onnx(network, (WIDTH, HEIGHT))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        (found,) = session.run([OUTPUT], {INPUT: images[:count]})
        assert found == pytest.approx(expected(network, images[:count]), abs=1e-6)
