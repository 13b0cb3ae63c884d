"""Answers about images that are kept in a file, so that a second run of a benchmark is quick."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tscm_core.evaluation.remembering import digest
from tscm_core.recognition.descriptor import Describer
from tscm_core.recognition.records import Rgb

Row = NDArray[np.float32]


class Answer(NamedTuple):
    """What was found out about an image, and the milliseconds that it took when it was found out."""

    row: Row
    ms: float


class Kept:
    """One float32 [D] for each image, by the digest of its pixels.

    Args:
        work: what finds it out.
        path: ``.npz`` file that :meth:`save` writes and that is read now; ``None``: nothing outlives the program.
    """

    def __init__(self, work: Callable[[Rgb], Row], path: Path | None = None) -> None:
        self._work, self._path = work, path
        self._answers = _read(path) if path else {}
        self._new = 0

    def of(self, image: Rgb) -> Answer:
        """The answer for an image uint8 [H, W, 3]."""
        key = digest(image)
        if key not in self._answers:
            start = time.perf_counter()
            row = self._work(image)
            self._answers[key] = Answer(row, (time.perf_counter() - start) * 1e3)
            self._new += 1
        return self._answers[key]

    def save(self) -> None:
        """Write what is new, beside what another run has written meanwhile; the file is whole at any time."""
        if self._path is None or not self._new:
            return
        self._answers = {**_read(self._path), **self._answers}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_name(f"{self._path.name}.{os.getpid()}.part")
        with part.open("wb") as file:
            np.savez(
                file,
                keys=np.frombuffer(b"".join(self._answers), np.uint8).reshape(len(self._answers), -1),
                rows=np.stack([answer.row for answer in self._answers.values()]),
                ms=np.array([answer.ms for answer in self._answers.values()]),
            )
        part.replace(self._path)
        self._new = 0


def _read(path: Path) -> dict[bytes, Answer]:
    if not path.is_file():
        return {}
    with np.load(path) as file:
        keys, rows, times = file["keys"], file["rows"], file["ms"]
    return {key.tobytes(): Answer(row, float(ms)) for key, row, ms in zip(keys, rows, times, strict=True)}


class KeptDescriber:
    """A describer that describes each image once, by itself."""

    def __init__(self, describer: Describer, folder: Path | None = None) -> None:
        self.dim, self.model_id, self.input_size = describer.dim, describer.model_id, describer.input_size
        name = hashlib.blake2b(describer.model_id.encode(), digest_size=8).hexdigest()
        path = folder / f"descriptors-{name}.npz" if folder else None
        self.kept = Kept(lambda image: np.asarray(describer.describe([image])[0], np.float32), path)

    def describe(self, images: Sequence[Rgb]) -> NDArray[np.float32]:
        """Images of the size that the detector gives, RGB ``uint8 [H, W, 3]``, to ``float32 [B, dim]``."""
        return np.stack([self.kept.of(image).row for image in images])
