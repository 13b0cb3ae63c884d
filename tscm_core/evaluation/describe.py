"""Descriptors of image files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from tscm_core.datasets.positions import read_image
from tscm_core.errors import DatasetError, TscmError
from tscm_core.recognition.descriptor import Describer
from tscm_core.recognition.records import Rgb


def read_rgb(path: Path) -> Rgb:
    """An image file as RGB ``uint8 [H, W, 3]``; grey ones are repeated over the channels.

    Raises:
        DatasetError: the file cannot be read as an image.
    """
    return np.asarray(cv2.cvtColor(read_image(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), np.uint8)


def describe_files(
    files: Sequence[Path], describer: Describer, out: Path, progress: Callable[[int, int], None]
) -> None:
    """Write the descriptors of ``files`` as ``float32 [B, D]`` to a ``.npy`` file, whole or not at all.

    Raises:
        DatasetError: some files cannot be read; all that do not exist are counted before the first is described.
        TscmError: ``out`` cannot be written.
    """
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        raise DatasetError(f"{len(missing)} of {len(files)} images do not exist: {', '.join(missing[:5])}")
    rows = []
    for path in files:
        rows.append(describer.describe([read_rgb(path)])[0])
        progress(len(rows), len(files))
    part = out.with_name(out.name + ".part")
    try:
        with part.open("wb") as file:
            np.save(file, np.stack(rows))
        part.replace(out)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise TscmError(f"descriptors cannot be written to {out}: {error.strerror}") from error
