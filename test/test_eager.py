"""The eager backend with the real weights, shipped and baseline: what must not change a descriptor does not."""

from __future__ import annotations

import copy

import cv2
import faiss
import numpy as np
import pytest
import torch
from shared_data import network

from tscm_core.checkpoints import load_student
from tscm_core.config import ModelConfig
from tscm_core.deploy.eager import EagerDescriber
from tscm_core.deploy.load import load_describer
from tscm_core.deploy.threads import limit_threads
from tscm_core.errors import ImageError, ModelFileError
from tscm_core.recognition.image import resize

DIMS = {"": 2048, "imagenet": 1280}
both = pytest.mark.parametrize("weights", DIMS, ids=lambda weights: weights or "shipped")


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def scene(seed, height=240, width=320):
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 80, np.uint8)
    for _ in range(25):
        x, y, w, h = (rng.random(4) * (width, height, width / 2, height / 2)).astype(int)
        cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), rng.integers(0, 256, 3).tolist(), -1)
    return image


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield limit_threads
    limit_threads(before)


@both
def test_it_keeps_the_protocol(weights):
    describer = network(weights)
    assert (describer.dim, describer.input_size) == (DIMS[weights], load_student(weights).input_size)
    name = "efficientnet_lite0-gem" if weights else "student-efficientnet_lite0"
    assert describer.model_id.startswith("{}-{}x{}-".format(name, *describer.input_size))
    empty = describer.describe([])
    assert (empty.shape, empty.dtype) == ((0, DIMS[weights]), np.float32)


@both
def test_descriptors_are_float32_contiguous_and_of_unit_length(weights):
    rows = network(weights).describe([scene(number) for number in range(4)])
    assert (rows.shape, rows.dtype, rows.flags.c_contiguous) == ((4, DIMS[weights]), np.float32, True)
    assert np.linalg.norm(rows.astype(np.float64), axis=1) == pytest.approx(1.0, abs=1e-5)
    similarities = rows @ rows.T
    assert similarities[np.triu_indices(4, 1)].max() < 0.98


@both
def test_a_batch_is_its_singles(weights):
    describer = network(weights)
    images = [scene(number) for number in range(5)] + [noise(480, 640), noise(50, 700), scene(9, 120, 100)]
    rows = describer.describe(images)
    singles = np.concatenate([describer.describe([image]) for image in images])
    assert np.abs(rows - singles).max() < 1e-5
    assert np.abs(describer.describe(images[::-1])[::-1] - rows).max() < 1e-5


@pytest.mark.parametrize("size", [(1, 1), (7, 900), (900, 7), (240, 320), (1080, 1920)])
def test_any_size_is_what_it_is_after_resizing(size):
    image = noise(*size)
    assert np.array_equal(network().describe([image]), network().describe([resize(image, network().input_size)]))


@both
def test_grey_images_repeated_over_the_channels_work(weights):
    grey = np.repeat(cv2.cvtColor(scene(1), cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)
    row, coloured = network(weights).describe([grey, scene(1)])
    assert np.linalg.norm(row) == pytest.approx(1.0, abs=1e-5)
    assert 0.3 < float(row @ coloured) < 0.99


@both
def test_normalisation_is_that_of_the_published_weights(weights):
    image = resize(scene(3), network(weights).input_size)
    pixels = (torch.from_numpy(image).permute(2, 0, 1)[None].float() - 127) / 128
    with torch.inference_mode():
        expected = load_student(weights)(pixels).numpy()
    assert np.abs(network(weights).describe([image]) - expected).max() < 1e-5


@both
def test_small_changes_of_view_and_light_stay_similar(weights):
    image = scene(4, 260, 340)
    first, shifted, darker, other = network(weights).describe(
        [image[:240, :320], image[6:246, 8:328], (image[:240, :320] * 0.8).astype(np.uint8), scene(5)]
    )
    assert min(first @ shifted, first @ darker) > first @ other
    assert min(first @ shifted, first @ darker) > (0.96 if weights == "imagenet" else 0.75)


@both
def test_the_same_image_gives_the_same_bits_and_threads_hardly_matter(threads, weights):
    describer = network(weights)
    images = [scene(1), noise(480, 640)]
    rows = []
    for count in (1, 2, 1):
        threads(count)
        rows.append(describer.describe(images))
        assert np.array_equal(describer.describe(images), rows[-1])
    assert np.array_equal(rows[0], rows[2])
    assert np.abs(rows[0] - rows[1]).max() < 1e-6  # oneDNN sums 1x1 convolutions in another order


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_image_is_refused(image):
    with pytest.raises(ImageError):
        network().describe([scene(1), image])


def test_model_id_follows_weights_and_input_size_and_nothing_else():
    student = load_student()
    same = EagerDescriber(copy.deepcopy(student)).model_id
    assert same == network().model_id == EagerDescriber(copy.deepcopy(student).train(), student.input_size).model_id
    assert EagerDescriber(copy.deepcopy(student), (320, 320)).model_id != same
    changed = copy.deepcopy(student)
    next(changed.parameters()).view(-1)[-1] += 0.5
    assert EagerDescriber(changed).model_id != same


def test_another_input_size_is_used():
    small = EagerDescriber(load_student(), (64, 96))
    image = noise(200, 200)
    assert small.input_size == (64, 96)
    assert np.array_equal(small.describe([image]), small.describe([resize(image, (64, 96))]))
    assert not np.allclose(small.describe([image]), network().describe([image]), atol=1e-3)


def test_loading_limits_the_threads_of_every_library(threads):
    threads(2)
    describer = load_describer(ModelConfig(threads=1, backend="eager"))
    assert (torch.get_num_threads(), cv2.getNumThreads(), faiss.omp_get_max_threads()) == (1, 1, 1)
    assert describer.model_id == network().model_id


def test_missing_weights_are_an_error_and_not_random_descriptors(tmp_path):
    with pytest.raises(ModelFileError, match=r"absent\.pth does not exist"):
        load_describer(ModelConfig(weights=str(tmp_path / "absent.pth")))
