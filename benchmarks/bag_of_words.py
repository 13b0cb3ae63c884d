"""The peer: a bag of visual words, weighted and scored as DBoW2 does (Galvez-Lopez and Tardos, T-RO 2012).

Words are the centres of OpenCV's k-means++ over the descriptors of training images, which is all that OpenCV's
``BOWKMeansTrainer`` does (it left the main modules with OpenCV 5). ORB descriptors are clustered as 256 numbers 0 or 1;
the centres are then rounded to bits (k-majority) and compared by Hamming distance. SIFT is clustered and compared by
Euclidean distance. The vocabulary is flat: each feature gets the nearest of all words, where DBoW2 saves time with a
tree.

Each word weighs its share of the image's features (tf) times log(images / images that have it) over the training images
(idf); the vector has L1 norm 1, and the score of two images is 1 - |v - w| / 2 in the L1 norm, from 0 to 1.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import faiss
import numpy as np
from numpy.typing import NDArray

from tscm_core.datasets.image_folder import read_rgb
from tscm_core.datasets.positions import list_images
from tscm_core.errors import DatasetError
from tscm_core.recognition.records import Rgb

ORB, SIFT = "ORB", "SIFT"
FEATURES = 1000
_SAMPLES_A_WORD = 30
_ITERATIONS = 12
_SEED = 4
_BITS = 256
_WIDTH = {ORB: 32, SIFT: 128}

Descriptors = NDArray[Any]
Row = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """``words``: ORB uint8 [K, 32] or SIFT float32 [K, 128]; ``idf`` float32 [K], 0 for a word of every image."""

    kind: str
    words: Descriptors
    idf: Row

    @property
    def name(self) -> str:
        """Tells this vocabulary from any other."""
        known = hashlib.blake2b(self.words.tobytes() + self.idf.tobytes(), digest_size=8).hexdigest()
        return f"{self.kind.lower()}-{len(self.words)}-{known}"

    def describe(self, image: Rgb) -> Row:
        """The weighted words of an image, float32 [K] with L1 norm 1; all 0 if it has no features."""
        return weighted(nearest(extract(image, self.kind), self.words), self.idf)


def extract(image: Rgb, kind: str) -> Descriptors:
    """Descriptors of at most ``FEATURES`` features: ORB uint8 [N, 32] or SIFT float32 [N, 128]."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    finder = cv2.ORB_create(FEATURES) if kind == ORB else cv2.SIFT_create(FEATURES)  # type: ignore[attr-defined]
    _, found = finder.detectAndCompute(grey, None)
    none = np.zeros((0, _WIDTH[kind]), np.uint8 if kind == ORB else np.float32)
    return none if found is None else np.asarray(found, none.dtype)


def nearest(descriptors: Descriptors, words: Descriptors) -> NDArray[np.int64]:
    """For each descriptor the number of the word that is nearest to it, int64 [N]."""
    if not len(descriptors):
        return np.zeros(0, np.int64)
    search = faiss.knn_hamming if words.dtype == np.uint8 else faiss.knn
    _, found = search(np.ascontiguousarray(descriptors), words, 1)
    return np.asarray(found[:, 0], np.int64)


def weighted(found: NDArray[np.int64], idf: Row) -> Row:
    """tf-idf of the words [N] that an image has, float32 [K] with L1 norm 1."""
    row = np.bincount(found, minlength=len(idf)) * idf
    total = float(row.sum())
    return np.asarray(row / total if total else row, np.float32)


def scores(rows: Row, query: Row) -> Row:
    """1 - |v - w| / 2 for every row [N, K], where both have L1 norm 1: what they have in common, word by word."""
    has = np.flatnonzero(query)
    return np.asarray(np.minimum(rows[:, has], query[has]).sum(axis=1), np.float32)


def training_images(folder: Path, most: int = 600) -> list[Path]:
    """At most ``most`` images of a folder, evenly; where it has a ``frames.csv``, none that is a query there.

    Raises:
        DatasetError: there are none.
    """
    images, table = list_images(folder), folder / "frames.csv"
    if table.is_file():
        with table.open(newline="", encoding="utf-8") as file:
            queries = {row["image"] for row in csv.DictReader(file) if row["split"] == "query"}
        images = [image for image in images if image.name not in queries]
    if not images:
        raise DatasetError(f"{folder} holds no images to train a vocabulary on: name a folder with others than queries")
    return images[:: -(-len(images) // most)]


def train(images: Sequence[Rgb], kind: str, words: int) -> Vocabulary:
    """A vocabulary of ``words`` words. The same images, the same vocabulary.

    Raises:
        DatasetError: the images have fewer features than words.
    """
    found = [extract(image, kind) for image in images]
    every = np.concatenate(found)
    if len(every) < words:
        raise DatasetError(f"{len(images)} images have {len(every)} {kind} features, too few for {words} words")
    chosen = np.random.default_rng(_SEED).permutation(len(every))[: _SAMPLES_A_WORD * words]
    centres = _centres(every[np.sort(chosen)], words)
    has = np.stack([np.bincount(nearest(one, centres), minlength=words) > 0 for one in found])  # [images, K]
    idf = np.log(len(images) / np.maximum(1, has.sum(axis=0)))
    return Vocabulary(kind, centres, np.asarray(idf, np.float32))


def _centres(samples: Descriptors, words: int) -> Descriptors:
    binary = samples.dtype == np.uint8
    points = np.unpackbits(samples, axis=1) if binary else samples
    cv2.setRNGSeed(_SEED)
    end = (cv2.TERM_CRITERIA_MAX_ITER, _ITERATIONS, 0.0)
    flags = cv2.KMEANS_PP_CENTERS
    _, _, centres = cv2.kmeans(points.astype(np.float32), words, None, end, 1, flags)  # type: ignore[call-overload]
    if binary:
        return np.packbits(np.asarray(centres).reshape(-1, _BITS) >= 0.5, axis=1)
    return np.ascontiguousarray(centres, np.float32)


def load_or_train(folder: Path, kind: str, words: int, cache: Path | None) -> Vocabulary:
    """The vocabulary of the images in ``folder``, kept in ``cache``.

    Raises:
        DatasetError: see :func:`training_images` and :func:`train`.
    """
    images = training_images(folder)
    asked = repr((kind, words, FEATURES, _SAMPLES_A_WORD, _ITERATIONS, [path.name for path in images]))
    path = cache / f"words-{hashlib.blake2b(asked.encode(), digest_size=8).hexdigest()}.npz" if cache else None
    if path is not None and path.is_file():
        with np.load(path) as file:
            return Vocabulary(kind, file["words"], file["idf"])
    vocabulary = train([read_rgb(image) for image in images], kind, words)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            np.savez(file, words=vocabulary.words, idf=vocabulary.idf)
        part.replace(path)
    return vocabulary
