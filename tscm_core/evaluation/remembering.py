"""The same answers again without the work, for drives that are replayed with other settings.

What was asked is recognised by a digest of the pixels. Nothing is ever forgotten: a replay is finite. The milliseconds
that an answer cost when it was found are counted as ``saved_ms`` each time it is given again, so that what a frame
would have cost is still known: the time that passed, and the time that was saved.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tscm_core.config import GeometryConfig
from tscm_core.recognition.descriptor import Describer
from tscm_core.recognition.geometry import LocalMatcher
from tscm_core.recognition.local_features import LocalFeatures
from tscm_core.recognition.records import Descriptor, Frame, Rgb
from tscm_core.recognition.two_view import TwoView

_JUDGING = frozenset({"enabled", "places", "min_inliers", "max_ratio"})
"""Settings of geometry that say what to do with an answer, and do not change it."""
_VERIFYING = frozenset({"max_descriptor_ratio", "max_error_px"})
"""Settings that two views are verified by, and that features do not depend on."""

Answer = TypeVar("Answer")


class Remembered(Generic[Answer]):
    """Answers by what was asked, and the milliseconds that giving them again has saved."""

    def __init__(self) -> None:
        self.saved_ms = 0.0
        self._answers: dict[Hashable, tuple[Answer, float]] = {}

    def answer(self, asked: Hashable, work: Callable[[], Answer]) -> Answer:
        """What ``work`` gives, or gave when the same was asked before."""
        if asked in self._answers:
            answer, cost_ms = self._answers[asked]
            self.saved_ms += cost_ms
            return answer
        start = time.perf_counter()
        answer = work()
        self._answers[asked] = answer, (time.perf_counter() - start) * 1e3
        return answer


class RememberingDescriber:
    """A describer that describes each image once, by itself, so that no answer depends on its company."""

    def __init__(self, describer: Describer) -> None:
        self.describer = describer
        self.dim, self.model_id, self.input_size = describer.dim, describer.model_id, describer.input_size
        self._rows: Remembered[Descriptor] = Remembered()

    @property
    def saved_ms(self) -> float:
        """Milliseconds of work that were saved so far."""
        return self._rows.saved_ms

    def describe(self, images: Sequence[Rgb]) -> NDArray[np.float32]:
        """Images of any size, RGB ``uint8 [H, W, 3]``, to unit-length ``float32 [B, dim]``, C-contiguous."""
        rows = [self._rows.answer(digest(image), partial(self._describe, image)) for image in images]
        return np.stack(rows) if rows else np.zeros((0, self.dim), np.float32)

    def _describe(self, image: Rgb) -> Descriptor:
        row: Descriptor = self.describer.describe([image])[0]
        return row


class RememberingMatcher:
    """A matcher that extracts from each image once, and verifies each pair once.

    Features are equal only to themselves: a pair is known again if both are the objects that :meth:`extract` gave out.
    """

    def __init__(self, matcher: LocalMatcher) -> None:
        self.matcher = matcher
        self._features: Remembered[LocalFeatures] = Remembered()
        self._views: Remembered[TwoView] = Remembered()

    @property
    def saved_ms(self) -> float:
        """Milliseconds of work that were saved so far."""
        return self._features.saved_ms + self._views.saved_ms

    def extract(self, frame: Frame, rule: GeometryConfig) -> LocalFeatures:
        """The local features of an image; see ``LocalMatcher``."""
        depth = b"" if frame.depth is None else digest(frame.depth)
        asked = (digest(frame.image), depth, frame.intrinsics, _settings(rule, _JUDGING | _VERIFYING))
        return self._features.answer(asked, lambda: self.matcher.extract(frame, rule))

    def verify(self, query: LocalFeatures, match: LocalFeatures, rule: GeometryConfig) -> TwoView:
        """What two images have in common; see ``LocalMatcher``."""
        asked = (query, match, _settings(rule, _JUDGING))
        return self._views.answer(asked, lambda: self.matcher.verify(query, match, rule))


def digest(values: NDArray[np.generic]) -> bytes:
    """16 bytes that stand for the shape, the type and every value of an array."""
    known = hashlib.blake2b(f"{values.dtype} {values.shape}".encode(), digest_size=16)
    known.update(np.ascontiguousarray(values).data)
    return known.digest()


def _settings(rule: GeometryConfig, besides: frozenset[str]) -> tuple[object, ...]:
    """All settings but those named: one that nobody thought of here costs work, and never gives a wrong answer."""
    return tuple(getattr(rule, item.name) for item in dataclasses.fields(rule) if item.name not in besides)
