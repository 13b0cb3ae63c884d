"""Tuples as tensors: the right images in the right places, the same on any number of workers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tscm_core.errors import DatasetError
from tscm_core.training.augment import AugmentConfig, Augmenter
from tscm_core.training.images import Images
from tscm_core.training.mining import TupleIndices
from tscm_core.training.tuples import TupleDataset

NEGATIVES = np.array([[2, 3], [4, -1], [5, 0]])
TUPLES = TupleIndices(np.array([0, 1, 2]), np.array([1, 2, 3]), NEGATIVES, NEGATIVES >= 0)


@pytest.fixture
def paths(tmp_path):
    """Six images; image k is of brightness 40 k in its red channel, with a slope of blue."""
    slope = np.linspace(0, 250, 48).astype(np.uint8)[None, :].repeat(32, axis=0)
    made = [tmp_path / f"{k}.png" for k in range(6)]
    for k, path in enumerate(made):
        cv2.imwrite(str(path), np.dstack([slope, np.zeros_like(slope), np.full_like(slope, 40 * k)]))
    return made


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_images_stand_where_the_numbers_say(paths):
    data = TupleDataset(Images(paths, (48, 32)), TUPLES, size=(24, 16))
    assert len(data) == 3
    for k, item in enumerate(data):
        assert item.keys() == {"anchor", "positive", "negatives", "valid"}
        assert (item["anchor"].dtype, tuple(item["anchor"].shape)) == (torch.uint8, (3, 16, 24))
        assert tuple(item["negatives"].shape) == (2, 3, 16, 24)
        assert item["anchor"][0].unique().tolist() == [40 * TUPLES.query[k]]
        assert item["positive"][0].unique().tolist() == [40 * TUPLES.positive[k]]
        assert item["valid"].tolist() == TUPLES.valid[k].tolist()
        for number, image in zip(TUPLES.negatives[k], item["negatives"], strict=True):
            assert image[0].unique().tolist() == [40 * number if number >= 0 else 0]
            assert (image[2].max() > 200) == (number >= 0)
    assert k == 2


def test_the_teacher_sees_clean_or_the_same_in_its_own_size(paths):
    images = Images(paths, (48, 32))
    blurred = Augmenter(AugmentConfig(viewpoint=1.0))
    clean = TupleDataset(images, TUPLES, (24, 16), blurred, teacher_sees="clean", teacher_size=(48, 32))[0]
    alike = TupleDataset(images, TUPLES, (24, 16), blurred, teacher_sees="same", teacher_size=(48, 32))[0]
    plain = TupleDataset(images, TUPLES)[0]
    assert torch.equal(clean["anchor"], alike["anchor"])
    for part in ("anchor", "positive", "negatives"):
        assert torch.equal(clean[f"teacher_{part}"], plain[part])
        assert not torch.equal(alike[f"teacher_{part}"], plain[part])
    shrunk = cv2.resize(alike["teacher_anchor"].permute(1, 2, 0).numpy(), (24, 16), interpolation=cv2.INTER_AREA)
    assert (shrunk == alike["anchor"].permute(1, 2, 0).numpy()).all()


def test_tuples_are_the_same_on_any_number_of_workers_and_from_memory_or_disk(paths):
    def loaded(workers, cache_mb=0, seed=(1, 2)):
        images = Images(paths, (48, 32), cache_mb)
        images.fill(lambda *_: None)
        data = TupleDataset(images, TUPLES, augmenter=Augmenter(), teacher_sees="same", seed=seed)
        return list(DataLoader(data, batch_size=2, num_workers=workers))

    first = loaded(0)
    for again in (loaded(2), loaded(0, cache_mb=1)):
        assert len(again) == 2
        assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert not same(first[0], loaded(0, seed=(1, 3))[0])


def test_two_images_of_a_tuple_are_changed_differently(paths):
    twice = TupleIndices(np.array([1]), np.array([1]), np.array([[1]]), np.array([[True]]))
    item = TupleDataset(Images(paths, (48, 32)), twice, augmenter=Augmenter(AugmentConfig(viewpoint=1.0)))[0]
    assert not torch.equal(item["anchor"], item["positive"])
    assert not torch.equal(item["anchor"], item["negatives"][0])


def test_a_missing_image_is_named(paths):
    paths[1].unlink()
    with pytest.raises(DatasetError, match=r"1.png"):
        _ = TupleDataset(Images(paths, (48, 32)), TUPLES)[0]
