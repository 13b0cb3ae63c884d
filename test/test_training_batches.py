"""Batches follow from (seed, epoch, number) alone; every process gets its share; descriptors find their place."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
import training_toys as toys

from tscm_core.errors import DatasetError
from tscm_core.evaluation.describe import read_rgb
from tscm_core.training.augment import AugmentConfig, Augmenter
from tscm_core.training.batches import BatchLoader, EpochBatches, FeatureInputs, ImageInputs, TupleBatch, as_here
from tscm_core.training.feature_cache import FeatureCache
from tscm_core.training.images import Images

TUPLES = np.array([[i, i + 1, *([i + 4] * (i % 3)), *([-1] * (2 - i % 3))] for i in range(10)], np.int32)
SIZE = (toys.WIDTH, toys.HEIGHT)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = toys.write_drive(tmp_path_factory.mktemp("toys") / "drive")
    return Images(sorted(folder.glob("*.png")), SIZE, cache_mb=1)


def inputs(images, strength=1.0, teacher_size=None):
    return ImageInputs(images, Augmenter(AugmentConfig(strength=strength)), SIZE, teacher_size)


def same(left, right):
    flat = zip(chain(left.inputs, left[1:]), chain(right.inputs, right[1:]), strict=True)
    return all(torch.equal(a, b) for a, b in flat)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_said_in_one_sentence(workers, tmp_path):
    files = sorted(toys.write_drive(tmp_path / "drive").glob("*.png"))
    files[3].write_bytes(b"no image")
    loader = BatchLoader(EpochBatches(TUPLES, 3, (7, 2), inputs(Images(files, SIZE))), workers=workers)
    with pytest.raises(DatasetError) as caught:
        list(loader)
    with pytest.raises(DatasetError) as plain:
        read_rgb(files[3])
    assert str(as_here(caught.value)) == str(plain.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_that_skips_gives_the_rest_of_the_same_batches(images, workers):
    whole = list(BatchLoader(EpochBatches(TUPLES, 3, (7, 2), inputs(images))))
    batches = EpochBatches(TUPLES, 3, (7, 2), inputs(images))
    loader = BatchLoader(batches, skip=2, workers=workers)
    assert len(loader) == len(whole) == 4, "Lightning counts the batches of the whole epoch"
    rest = list(loader)
    assert len(rest) == 2
    assert all(same(left, right) for left, right in zip(rest, whole[2:], strict=True))
    assert [len(batch.rows) for batch in whole] == [3, 3, 3, 1]


def test_each_tuple_comes_once_and_epochs_and_seeds_differ(images):
    orders = []
    for seed in ((1, 0), (1, 1), (2, 0)):
        batches = EpochBatches(TUPLES, 3, seed, inputs(images))
        rows = torch.cat([batches[k].rows for k in range(len(batches))])
        assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, TUPLES.tolist()))
        orders.append(tuple(rows[:, 0].tolist()))
    assert len(set(orders)) == 3
    first, second = (EpochBatches(TUPLES[:1], 1, (1, epoch), inputs(images))[0] for epoch in (0, 1))
    assert not torch.equal(first.inputs[0], second.inputs[0]), "an image is varied anew in each epoch"


@pytest.mark.parametrize("world", [2, 3, 4])
def test_processes_share_the_tuples_in_equal_parts(images, world):
    parts = [EpochBatches(TUPLES, 2, (1, 0), inputs(images), rank=(rank, world)) for rank in range(world)]
    assert len({len(part) for part in parts}) == 1
    queries = [int(q) for part in parts for k in range(len(part)) for q in part[k].rows[:, 0]]
    assert set(queries) == set(range(10))
    assert len(queries) == -(-10 // world) * world


def test_images_are_those_of_the_rows_and_padding_is_left_out(images):
    batch = EpochBatches(TUPLES, 10, (1, 0), inputs(images, strength=0.0, teacher_size=(30, 20)))[0]
    numbers = batch.rows[batch.rows >= 0].tolist()
    assert len(batch.inputs[0]) == len(batch.teacher) == len(numbers) < batch.rows.numel()
    for number, pixels in zip(numbers, batch.inputs[0], strict=True):
        assert np.array_equal(pixels, read_rgb(images.paths[number]))
    assert batch.teacher.shape == (len(numbers), 20, 30, 3)


def test_descriptors_of_the_teacher_come_with_their_images(images):
    taught = np.random.default_rng(0).normal(size=(len(images), 5)).astype(np.float32)
    batch = EpochBatches(TUPLES, 10, (1, 0), inputs(images), taught)[0]
    assert np.array_equal(batch.teacher, taught[batch.rows[batch.rows >= 0]])


def test_descriptors_are_arranged_as_a_plain_loop_would_and_gradients_return():
    rows = torch.tensor([[0, 1, 2, -1], [3, 4, -1, -1], [5, 6, 7, 8]], dtype=torch.int32)
    flat = torch.randn(9, 5, requires_grad=True)
    found = TupleBatch((torch.empty(0),), torch.empty(0), rows).arrange(flat)
    for b in range(3):
        assert torch.equal(found.anchor[b], flat[rows[b, 0]])
        assert torch.equal(found.positive[b], flat[rows[b, 1]])
        for k in range(2):
            assert bool(found.valid[b, k]) == (rows[b, 2 + k] >= 0)
            if found.valid[b, k]:
                assert torch.equal(found.negatives[b, k], flat[rows[b, 2 + k]])
    (found.anchor.sum() + 2 * found.negatives.sum()).backward()
    assert flat.grad[:, 0].tolist() == [1, 0, 2, 1, 0, 1, 0, 2, 2]


def test_features_are_drawn_among_the_variants():
    levels = [np.arange(10 * 3 * 2, dtype=np.float16).reshape(10, 3, 2), np.ones((10, 3, 4, 5), np.float16)]
    batch = EpochBatches(np.repeat(TUPLES[:1], 60, axis=0), 60, (1, 0), FeatureInputs(FeatureCache(levels)))[0]
    numbers = batch.rows[batch.rows >= 0]
    assert batch.inputs[1].shape == (len(numbers), 4, 5)
    variant = (batch.inputs[0][:, 0] - 6 * numbers) / 2
    assert set(variant.tolist()) == {0.0, 1.0, 2.0}
