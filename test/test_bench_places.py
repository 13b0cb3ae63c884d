"""Made-up descriptors against the figures that they are to imitate."""

from __future__ import annotations

import numpy as np
import pytest

from tscm_core.bench.places import places, queries


@pytest.fixture(scope="module")
def drive():
    return np.concatenate(list(places(3000, 512, seed=1)))


def test_a_drive_is_as_long_as_asked_for_in_blocks_of_unit_length_rows():
    blocks = list(places(8200, 9))
    assert [len(block) for block in blocks] == [8192, 8]
    rows = np.concatenate(blocks)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1.0, abs=1e-5)
    across = np.einsum("nd,nd->n", rows[:-1], rows[1:])
    assert across[8191] > np.median(across) - 3 * across.std()  # no jump where a block ends
    assert list(places(0)) == []


def test_a_shorter_drive_is_the_beginning_of_a_longer_one_and_another_seed_is_another_drive(drive):
    assert np.concatenate(list(places(700, 512, seed=1))) == pytest.approx(drive[:700], abs=1e-5)
    assert abs(np.einsum("nd,nd->n", drive[:500], next(places(500, 512, seed=2))).mean() - 0.28) < 0.05


@pytest.mark.parametrize(
    ("apart", "similarity"), [(1, 0.82), (2, 0.75), (5, 0.62), (10, 0.5), (20, 0.43), (2000, 0.28)]
)
def test_similarity_along_the_drive_is_that_of_real_ones(drive, apart, similarity):
    assert np.einsum("nd,nd->n", drive[:-apart], drive[apart:]).mean() == pytest.approx(similarity, abs=0.04)


def test_a_second_visit_is_most_similar_to_its_place_and_nearly_so_to_the_next(drive):
    ranked = np.sort(queries(drive, 5) @ drive.T, axis=1)[:, ::-1]
    assert ranked[:, 0].mean() == pytest.approx(0.79, abs=0.03)
    assert 0.015 < (ranked[:, 0] - ranked[:, 1]).mean() < 0.045
    best = np.argmax(queries(drive, 5) @ drive.T, axis=1)
    assert np.mean(np.abs(best - np.arange(len(drive))) <= 1) > 0.98


def test_a_second_visit_to_places_that_are_no_neighbours_mixes_none(drive):
    alone = drive[::100]
    assert np.argmax(queries(alone) @ alone.T, axis=1).tolist() == list(range(len(alone)))
    assert np.linalg.norm(queries(alone), axis=1) == pytest.approx(1.0, abs=1e-5)


def test_axes_learnt_from_some_worlds_hold_little_of_the_next():
    rows = np.concatenate(list(places(7500, 512)))
    learnt, new = rows[:6000], rows[6100:]
    axes = np.linalg.eigh(learnt.T @ learnt)[1][:, ::-1]
    known, unknown = (float(np.square(those @ axes[:, :64]).sum() / len(those)) for those in (learnt, new))
    assert (known, unknown) == pytest.approx((0.75, 0.62), abs=0.06)
