"""Made-up descriptors in any number, with the statistics of real ones, to measure what a large map costs.

Real maps of a million places are not at hand, and random vectors would mislead: they lie far apart from each other, and
a code learnt from some of them suits all. What is imitated was measured with the default student on 16 rendered drives
through 8 worlds (two laps each, 6,083 images a lap, one every 0.7 m):

- a descriptor shares 0.28 of its squared length with all others and 0.06 more with those of its own world;
- along a drive the similarity is 0.82 one image on, 0.75 at 2, 0.62 at 5, 0.50 at 10, 0.43 at 20, and 0.33 far away;
- axes learnt from 7 of the worlds hold 0.49, 0.58, 0.70 and 0.86 of the squared length in the eighth with 128, 256, 512
  and 1024 of them, where a falling spectrum ``1 / (3 + k) ** 0.75`` gives 0.47, 0.56, 0.66 and 0.80;
- the second lap is 0.80 similar to the nearest place of the first, give or take 0.04, and 0.03 less to the second
  nearest; its changed light, which is the same for all its images, is 0.04 of the squared length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]

_BLOCK = 8192
_COMMON, _WORLD, _SLOW, _FAST, _IMAGE = 0.28, 0.055, 0.14, 0.41, 0.115
"""Shares of the squared length: of all places, of one world, of a room, of a few metres, of a single image."""
_WORLD_IMAGES, _SLOW_IMAGES, _FAST_IMAGES = 1500, 40, 5.5
_REVISIT, _REVISIT_SPREAD, _LIGHT = 0.82, 0.045, 0.04
_NEIGHBOURS = 0.6
"""Rows that are more similar than this are taken for neighbours on a drive, between which a second visit may fall."""


def places(count: int, dim: int = 2048, seed: int = 0) -> Iterator[Rows]:
    """The descriptors of a drive through one new world after another, ``count`` unit-length rows ``float32 [n, dim]``.

    They come in blocks of at most 8192 rows, of which none depends on ``count``: a shorter drive is the beginning of a
    longer one with the same ``seed``.
    """
    common = _common(dim)
    passing = _normal(1, dim, (seed, 0))[0]
    for begin in range(0, count, _BLOCK):
        fast = _wander(_normal(_BLOCK, dim, (seed, 1, begin)), passing)
        passing = fast[-1].copy()
        rows = fast[: count - begin]
        rows *= _root(_FAST)
        rows += _root(_IMAGE) * _normal(len(rows), dim, (seed, 2, begin))
        at = np.arange(begin, begin + len(rows))
        rows += _root(_SLOW) * _between_knots(at, dim, seed)
        rows += _root(_WORLD) * _knots(at // _WORLD_IMAGES, dim, (seed, 4))
        yield _unit(_coloured(rows) + common)


def queries(of: Rows, seed: int = 0) -> Rows:
    """What a second visit to the places ``of [N, dim]`` would give, under another light, unit length.

    Where the rows before and after are neighbours on the drive, the visit falls somewhere between them, which makes it
    as hard as it is in truth to say which of the places is nearest: the second is 0.03 less similar than the first.
    """
    rng = np.random.default_rng((seed, 5))
    dim = of.shape[1]
    share = rng.random(len(of), np.float32)[:, None]
    seen = _unit(of + (1 - share) * _neighbours(of, 1) + share * _neighbours(of, -1))
    similarity = np.clip(rng.normal(_REVISIT, _REVISIT_SPREAD, len(of)), 0.5, 0.95).astype(np.float32)[:, None]
    light = _root(_LIGHT / (1 - _REVISIT**2)) * _normal(1, dim, (seed, 7))
    change = _coloured(_normal(len(of), dim, (seed, 6)) + light)
    change -= np.einsum("nd,nd->n", change, seen)[:, None] * seen
    apart = np.sqrt(1 - similarity**2).astype(np.float32)
    return _unit(similarity * seen + apart * _unit(change))


def _neighbours(of: Rows, way: int) -> Rows:
    """The rows before or after; the rows themselves where those are of elsewhere."""
    others = np.roll(of, way, axis=0)
    return np.where(np.einsum("nd,nd->n", of, others)[:, None] > _NEIGHBOURS, others, of)


def _coloured(white: Rows) -> Rows:
    """White noise [N, dim] with the spectrum of descriptors and unit length in the mean.

    Turned twice, so that the strong directions lie across all numbers, as they do in truth.
    """
    dim = white.shape[1]
    spectrum = (3.0 + np.arange(dim) * 2048 / dim) ** -0.75
    scale = np.sqrt(spectrum / spectrum.sum()).astype(np.float32)
    first, second = np.sign(_normal(2, dim, (0, 1)))
    return _fourier(_fourier(white * scale * first) * second)


def _fourier(rows: Rows) -> Rows:
    """The real Fourier transform of each row [N, dim] as ``dim`` real numbers: a rotation, quick at any length."""
    dim = rows.shape[1]
    spectrum = np.fft.rfft(rows, norm="ortho")
    turned = np.concatenate([spectrum.real, spectrum.imag[:, 1 : (dim + 1) // 2]], axis=1)
    turned[:, 1 : (dim + 1) // 2] *= math.sqrt(2)
    turned[:, dim // 2 + 1 :] *= math.sqrt(2)
    return turned.astype(np.float32)


def _common(dim: int) -> Rows:
    """What the descriptors of all places share: a property of the network, thus the same for every seed."""
    return np.asarray(_root(_COMMON) * _unit(_normal(1, dim, (0,)))[0], np.float32)


def _wander(steps: Rows, state: Rows) -> Rows:
    """Turn steps [N, dim] in place into an autoregressive walk from ``state`` on that forgets in a few images."""
    keep = np.float32(np.exp(-1 / _FAST_IMAGES))
    steps *= np.sqrt(1 - keep**2)
    for i in range(len(steps)):
        steps[i] += keep * (steps[i - 1] if i else state)
    return steps


def _between_knots(at: NDArray[np.int64], dim: int, seed: int) -> Rows:
    """What changes over tens of images: straight from one random point to the next, variance 1 throughout."""
    share = (at % _SLOW_IMAGES / _SLOW_IMAGES).astype(np.float32)[:, None]
    here, there = _knots(at // _SLOW_IMAGES, dim, (seed, 3)), _knots(at // _SLOW_IMAGES + 1, dim, (seed, 3))
    return np.asarray(((1 - share) * here + share * there) / np.sqrt((1 - share) ** 2 + share**2), np.float32)


def _knots(which: NDArray[np.int64], dim: int, seed: tuple[int, ...]) -> Rows:
    """Random points [N, dim] by number; equal numbers, equal points."""
    numbers, back = np.unique(which, return_inverse=True)
    return np.asarray(np.concatenate([_normal(1, dim, (*seed, int(number))) for number in numbers])[back], np.float32)


def _normal(count: int, dim: int, seed: tuple[int, ...]) -> Rows:
    return np.random.default_rng(seed).standard_normal((count, dim), dtype=np.float32)


def _root(share: float) -> float:
    return math.sqrt(share)


def _unit(rows: Rows) -> Rows:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
