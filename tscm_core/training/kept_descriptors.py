"""Descriptors of a frozen network, described once and kept in a folder for further runs, e.g. of an ablation."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tscm_core.checkpoints import model_id
from tscm_core.errors import TscmError
from tscm_core.models.network import Network
from tscm_core.training.feature_cache import describe_images
from tscm_core.training.images import Images, Progress


def describe_once(
    network: Network, images: Images, device: torch.device, folder: Path | None, progress: Progress, title: str
) -> NDArray[np.float32]:
    """Descriptors of all images, ``float32 [N, D]``, as ``describe_images`` makes them; or what ``folder`` holds.

    The name of the file stands for all that the descriptors depend on: weights, size, and every image file.

    Raises:
        DatasetError: an image cannot be read.
        TscmError: ``folder`` cannot be written.
    """
    if folder is None:
        return describe_images(network, images, device, progress, title)
    path = folder / f"descriptors-{_key(network, images)}.npy"
    if path.is_file():
        return np.asarray(np.load(path), np.float32)
    found = describe_images(network, images, device, progress, title)
    part = folder / f".{path.stem}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.save(file, found)
        part.replace(path)
    except OSError as error:
        raise TscmError(f"descriptors cannot be kept in {folder}: {error.strerror}") from error
    return found


def _key(network: Network, images: Images) -> str:
    digest = hashlib.sha256(model_id(network, f"{images.size[0]}x{images.size[1]}").encode())
    for path in images.paths:
        status = path.stat()
        digest.update(f"{path}|{status.st_size}|{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:24]
