"""Recall@k: of the queries whose place the database holds, how many find it among their k most similar images.

A query with several right images counts once. Queries without a right image are left out and counted. Figures of
different radii never belong in one column.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from tscm_core.datasets.places import PlaceSet
from tscm_core.errors import DatasetError, TscmError
from tscm_core.evaluation.describe import read_rgb
from tscm_core.evaluation.trial import LocatedImages, Trial, trial_of_folders, trial_of_places
from tscm_core.recognition.descriptor import Describer

KS = (1, 5, 10, 20)
_SPARE = 16
"""How many images more than asked for are compared exactly, so that ties are resolved by order and not by rounding."""
_MOST = 1000
"""... at most: a network that makes every image alike must not make every query a search through everything."""
_ROUNDING = 1e-5
"""Bound on the rounding of a ``float32`` inner product of two unit vectors of a few thousand numbers."""

Rows = NDArray[np.int64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class RecallResult:
    """What a search found.

    Attributes:
        recall: recall@k as a fraction 0..1, by k.
        queries: all queries, of which ``queries_with_positive`` have a right image that they may return.
        database: database images.
        top: rows of the most similar database images, best first, ``int64 [Q, max(20, ks)]``; -1 where there is none.
        similarity: their similarities, ``float64 [Q, max(20, ks)]``; NaN where there is none.
    """

    recall: dict[int, float]
    queries: int
    queries_with_positive: int
    database: int
    top: Rows
    similarity: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a describer achieves in a trial; ``describe_ms_p50`` is its median time for one image, decoding excluded."""

    trial: Trial
    result: RecallResult
    model_id: str
    dim: int
    describe_ms_p50: float

    def to_json(self) -> dict[str, Any]:
        """The figures, as ``tscm evaluate --json`` prints them; ``unit`` only where ``radius_m`` is not in metres."""
        limited: dict[str, Any] = {} if self.trial.unit == "m" else {"unit": self.trial.unit}
        if self.trial.max_yaw_deg is not None:
            limited["max_yaw_deg"] = self.trial.max_yaw_deg
        return {
            "recall": {str(k): value for k, value in self.result.recall.items()},
            "queries": self.result.queries,
            "queries_with_positive": self.result.queries_with_positive,
            "database": self.result.database,
            "radius_m": self.trial.radius,
            **limited,
            "model_id": self.model_id,
            "dim": self.dim,
            "describe_ms_p50": self.describe_ms_p50,
        }


def recall_at(
    database: NDArray[np.float32],
    queries: NDArray[np.float32],
    positives: Sequence[Rows],
    ks: Sequence[int] = KS,
    exclude: Sequence[Rows] | None = None,
) -> RecallResult:
    """Recall@k of unit-length descriptors, by exact search over inner products.

    Args:
        database: ``float32 [M, D]``.
        queries: ``float32 [Q, D]``.
        positives: for each query the rows of its right database images, ``int64 [P_i]``, perhaps none.
        ks: each of them 1 or more; a k beyond M counts all of the database.
        exclude: for each query the rows that it may not return: the image itself, its neighbours in a video. What is
            excluded is no positive either. ``None``: all may be returned.

    Of equally similar images the one with the lower row comes first, on any number of threads.

    Raises:
        TscmError: a descriptor holds a value that is not finite.
        DatasetError: there is no query, no database image, or no query with a positive.
    """
    if not len(database) or not len(queries):
        raise DatasetError(f"recall needs queries and a database, not {len(queries)} and {len(database)} images")
    if not (np.isfinite(database).all() and np.isfinite(queries).all()):
        raise TscmError("a descriptor holds a value that is not finite: the network is broken, choose other weights")
    excluded = [np.unique(rows) for rows in exclude] if exclude is not None else [np.empty(0, np.int64)] * len(queries)
    right = [np.setdiff1d(rows, out) for rows, out in zip(positives, excluded, strict=True)]
    judged = np.array([len(rows) > 0 for rows in right])
    if not judged.any():
        raise DatasetError(f"none of the {len(queries)} queries has a right image in the database: there is no recall")
    top, similarity = search(database, queries, max(*ks, *KS), excluded)
    hits = np.array([np.isin(found, rows) for found, rows in zip(top, right, strict=True)])  # [Q, K]
    recall = {k: float(hits[judged, :k].any(axis=1).mean()) for k in ks}
    return RecallResult(recall, len(queries), int(judged.sum()), len(database), top, similarity)


def search(
    database: NDArray[np.float32], queries: NDArray[np.float32], count: int, excluded: Sequence[Rows]
) -> tuple[Rows, NDArray[np.float64]]:
    """The ``count`` most similar rows that are not excluded, and their similarities, ``[Q, count]``, best first.

    faiss finds somewhat more than are asked for; their similarities are computed again in ``float64``, so that equal
    descriptors are equally similar and the order does not depend on how faiss cut the work into blocks.
    """
    top = np.full((len(queries), count), -1, np.int64)
    similarity = np.full((len(queries), count), np.nan)
    needed = count + max(len(rows) for rows in excluded)
    most = min(needed + _MOST, len(database))
    waiting, depth = list(range(len(queries))), needed + _SPARE
    while waiting:
        depth = min(depth, most)
        rough, near = faiss.knn(queries[waiting], database, depth, metric=faiss.METRIC_INNER_PRODUCT)
        undecided = []
        for query, rows, last in zip(waiting, near, rough[:, -1], strict=True):
            kept = np.sort(rows[~np.isin(rows, excluded[query])])
            exact = (database[kept].astype(np.float64) * queries[query]).sum(axis=1)
            best = np.argsort(-exact, kind="stable")[:count]
            if depth < most and exact[best[-1]] <= last + _ROUNDING:  # what was not looked at may tie
                undecided.append(query)
            top[query, : len(best)], similarity[query, : len(best)] = kept[best], exact[best]
        waiting, depth = undecided, 4 * depth
    return top, similarity


def evaluate_folders(
    database: LocatedImages,
    queries: LocatedImages,
    describer: Describer,
    radius_m: float = 25.0,
    max_yaw_deg: float | None = None,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Recall of images in folders: right is what is within ``radius_m`` metres and ``max_yaw_deg`` degrees of heading.

    Raises:
        DatasetError: an image cannot be read or has no heading where one is needed, or no query has a right image.
    """
    return evaluate(trial_of_folders(database, queries, radius_m, max_yaw_deg), describer, progress)


def evaluate_places(
    places: PlaceSet,
    describer: Describer,
    progress: Progress = lambda done, total: None,
    unit: str = "m",
) -> Evaluation:
    """Recall of a set of places: its queries against its database, by its own radius, which is in ``unit``.

    Raises:
        DatasetError: an image is missing or cannot be read, or no query has a right image.
    """
    places.check_images()
    return evaluate(trial_of_places(places, unit), describer, progress)


def evaluate(trial: Trial, describer: Describer, progress: Progress = lambda done, total: None) -> Evaluation:
    """Describe the images of a trial one by one, each file once, and search.

    Raises:
        DatasetError: an image cannot be read, or no query has a right image.
    """
    if not any(len(right) for right in trial.positives):
        raise DatasetError(
            f"none of the {len(trial.queries)} queries has a right image among {len(trial.database)} database images "
            f"within {trial.radius:g} {trial.unit}: look at the positions, or choose another radius"
        )
    files = list(dict.fromkeys((*trial.database, *trial.queries)))
    row_of = {path: row for row, path in enumerate(files)}
    descriptors = np.empty((len(files), describer.dim), np.float32)
    times_ms = []
    describer.describe([read_rgb(files[0])])  # warm-up: the first run is slower than all others
    for row, path in enumerate(files):
        image = read_rgb(path)
        start = time.perf_counter()
        descriptors[row] = describer.describe([image])[0]
        times_ms.append((time.perf_counter() - start) * 1e3)
        progress(row + 1, len(files))
    result = recall_at(
        descriptors[[row_of[path] for path in trial.database]],
        descriptors[[row_of[path] for path in trial.queries]],
        trial.positives,
        exclude=trial.excluded,
    )
    return Evaluation(trial, result, describer.model_id, describer.dim, round(statistics.median(times_ms), 3))
