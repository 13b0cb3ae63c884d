"""Recall against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from small_places import make_two_folders, make_videos, rows
from toys import ToyDescriber, direction

from tscm_core.errors import DatasetError, TscmError
from tscm_core.evaluation.recall import KS, evaluate, evaluate_folders, evaluate_places, recall_at
from tscm_core.evaluation.trial import located_images, trial_of_folders


@pytest.fixture
def two_folders(tmp_path):
    return make_two_folders(tmp_path)


@pytest.fixture
def videos(tmp_path):
    return make_videos(tmp_path)


def units(seed, count, dim=16):
    drawn = np.random.default_rng(seed).normal(size=(count, dim))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def plain(database, queries, positives, ks, exclude):
    """Recall@k and the predictions, as the words say it: sort everything, look at the first k."""
    tops, found, judged = [], dict.fromkeys(ks, 0), 0
    for q, query in enumerate(queries):
        similarities = [math.fsum(float(a) * float(b) for a, b in zip(query, row, strict=True)) for row in database]
        order = sorted(range(len(database)), key=lambda m: (-similarities[m], m))
        order = [m for m in order if m not in exclude[q]]
        tops.append(order)
        right = set(map(int, positives[q])) - set(map(int, exclude[q]))
        judged += bool(right)
        for k in ks:
            found[k] += bool(right) and any(m in right for m in order[:k])
    return {k: found[k] / judged for k in ks}, judged, tops


# ---------------------------------------------------------------------------------------------------- recall_at


@pytest.mark.parametrize(("size", "asking"), [(60, 25), (7, 12), (1, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_recall_is_that_of_a_plain_loop(seed, size, asking):
    random = np.random.default_rng(seed)
    database, queries = units((seed, 1), size), units((seed, 2), asking)
    positives = [rows(*random.choice(size, random.integers(0, min(size, 4) + 1), replace=False)) for _ in queries]
    positives[0] = rows(0)
    exclude = [rows(*random.choice(size, random.integers(0, size // 2 + 1), replace=False)) for _ in queries]
    exclude[0] = rows()
    result = recall_at(database, queries, positives, (1, 2, 5, 10), exclude)
    recall, judged, tops = plain(database, queries, positives, (1, 2, 5, 10), exclude)
    assert result.recall == pytest.approx(recall, abs=1e-12)
    assert (result.queries, result.queries_with_positive, result.database) == (asking, judged, size)
    for q, top in enumerate(tops):
        shown = min(20, len(top))
        assert result.top[q, :shown].tolist() == top[:shown]
        assert (result.top[q, shown:] == -1).all()
        assert np.isnan(result.similarity[q, shown:]).all()
        assert result.similarity[q, :shown] == pytest.approx(database[top[:shown]] @ queries[q], abs=1e-5)


def test_several_right_images_of_a_query_count_once():
    database = np.eye(4, dtype=np.float32)
    result = recall_at(database, database[:2], [rows(0, 1, 2), rows(3)])
    assert result.recall == {1: 0.5, 5: 1.0, 10: 1.0, 20: 1.0}


def test_queries_without_a_right_image_are_left_out_and_counted():
    database = np.eye(3, dtype=np.float32)
    result = recall_at(database, database, [rows(0), rows(), rows(0)], (1,))
    assert result.recall == {1: 0.5}
    assert (result.queries, result.queries_with_positive) == (3, 2)


def test_a_right_image_that_may_not_be_returned_is_none():
    database = np.eye(3, dtype=np.float32)
    result = recall_at(database, database, [rows(0), rows(1), rows(2, 0)], (1,), [rows(0), rows(), rows(2)])
    assert (result.queries_with_positive, result.recall) == (2, {1: 1.0})  # the third finds 0 first, by its row


def test_exclusion_happens_before_the_first_k_are_counted():
    database = np.repeat(np.eye(2, dtype=np.float32), [200, 1], axis=0)
    result = recall_at(database, database[:1], [rows(200)], (1,), [np.arange(200)])
    assert result.recall == {1: 1.0}
    assert result.top[0].tolist() == [200] + 19 * [-1]


@pytest.mark.parametrize("copies", [5, 37, 300])
def test_ties_go_to_the_lower_row(copies):
    """Among so many equal rows that no search for a few more than 20 sees them all."""
    database = np.concatenate([units(1, 30, 64), np.repeat(units(2, 1, 64), copies, axis=0), units(3, 30, 64)])
    result = recall_at(database, np.repeat(database[30:31], 3, axis=0), [rows(30)] * 3, (1,))
    assert (result.top[:, : min(copies, 20)] == np.arange(30, 30 + min(copies, 20))).all()
    assert result.recall == {1: 1.0}


def test_near_ties_are_resolved_more_finely_than_the_search_rounds():
    """Similarities that differ by less than ``float32`` holds near 1: the 36 best of a plain search are any 36."""
    query = units(4, 1, 64)
    database = (query + 3e-7 * units(5, 400, 64)).astype(np.float32)
    exact = database.astype(np.float64) @ query[0].astype(np.float64)
    result = recall_at(database, query, [rows(0)])
    assert result.similarity[0] == pytest.approx(np.sort(exact)[::-1][:20], abs=1e-14)
    assert result.top[0].tolist() == np.argsort(-exact, kind="stable")[:20].tolist()


def test_images_that_are_all_alike_do_not_take_forever():
    database = np.repeat(units(0, 1, 8), 5000, axis=0)
    result = recall_at(database, database[:50], [rows(4999)] * 50)
    assert result.recall[1] == 0.0


def test_what_is_not_finite_is_refused():
    database = units(0, 5)
    broken = database.copy()
    broken[3, 2] = np.nan
    for pair in ((broken, database), (database, broken)):
        with pytest.raises(TscmError, match="not finite"):
            recall_at(*pair, [rows(0)] * 5)


def test_recall_of_nothing_is_refused():
    some, none = units(0, 3), np.empty((0, 16), np.float32)
    with pytest.raises(DatasetError, match="0 and 3 images"):
        recall_at(some, none, [])
    with pytest.raises(DatasetError, match="3 and 0 images"):
        recall_at(none, some, [rows()] * 3)
    with pytest.raises(DatasetError, match="none of the 3 queries"):
        recall_at(some, some, [rows()] * 3)


# ---------------------------------------------------------------------------------------------------- evaluation


def test_folders_are_judged_by_their_radius(two_folders):
    database, queries = map(located_images, two_folders)
    result = evaluate_folders(database, queries, ToyDescriber(), 4.0)
    assert result.to_json() == {
        # the second query looks like the third image and stands at the second
        "recall": {"1": 0.5, "5": 1.0, "10": 1.0, "20": 1.0},
        "queries": 2,
        "queries_with_positive": 2,
        "database": 3,
        "radius_m": 4.0,
        "model_id": "toy",
        "dim": 64,
        "describe_ms_p50": result.describe_ms_p50,
    }
    assert result.result.top[:, 0].tolist() == [0, 2]
    assert result.result.similarity[0, 0] == pytest.approx(float(direction(1) @ direction(1, 9)), abs=1e-6)
    assert result.describe_ms_p50 > 0
    assert evaluate_folders(database, queries, ToyDescriber(), 3.0).result.queries_with_positive == 1
    assert tuple(KS) == (1, 5, 10, 20)


def test_no_right_image_at_all_is_said_before_anything_is_described(two_folders):
    with pytest.raises(DatasetError, match=r"none of the 2 queries .* 3 database images within 2 m"):
        evaluate_folders(*map(located_images, two_folders), describer=None, radius_m=2.0)


def test_each_file_is_described_once_and_told(two_folders):
    seen, steps = [], []

    class Counting(ToyDescriber):
        def describe(self, images):
            seen.append(images[0][0, 0].tolist())
            return super().describe(images)

    database = located_images(two_folders[0])
    trial = trial_of_folders(database, database, 10.0)
    evaluate(trial, Counting(), lambda done, total: steps.append((done, total)))
    assert seen[1:] == [[1, 0, 0], [2, 0, 0], [3, 0, 0]]
    assert seen[0] == seen[1]  # the warm-up
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_missing_images_of_a_place_set_are_counted(videos):
    videos.images[2].unlink()
    with pytest.raises(DatasetError, match="1 of 5 images are missing"):
        evaluate_places(videos, describer=None)
