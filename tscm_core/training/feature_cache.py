"""What a frozen network makes of every image, computed once: features of its trunk, or descriptors."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import distributed as processes

from tscm_core.errors import ConfigError, TscmError
from tscm_core.models.network import Network
from tscm_core.recognition.records import Rgb
from tscm_core.training.images import Images, Progress, normalise

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]
Vary = Callable[[Rgb, np.random.Generator], Rgb]

_BATCH, _GPU_BATCH = 4, 32
"""Images at once. On a processor larger batches leave its cache, and take twice as long for each image."""
_SEED = 20240401
"""Variants are drawn from this, not from the seed of the run: runs with other seeds share them."""


class FeatureCache:
    """Features of a frozen trunk for V variants of each of N images, in half precision.

    Variant 0 is the clean image, the others are augmented.

    Args:
        levels: for each tensor that ``Network.features`` returns, ``float16 [N, V, ...]``.
    """

    def __init__(self, levels: Sequence[Halves]) -> None:
        self._levels = tuple(levels)

    def __len__(self) -> int:
        return len(self._levels[0])

    @property
    def variants(self) -> int:
        """Variants of an image, the clean one counted."""
        return int(self._levels[0].shape[1])

    def take(self, images: Sequence[int], variants: Sequence[int]) -> tuple[Tensor, ...]:
        """Features of some images, each in one variant: ``float16 [B, ...]`` for each level."""
        return tuple(torch.from_numpy(np.ascontiguousarray(level[images, variants])) for level in self._levels)

    def clean(self) -> Iterator[tuple[Tensor, ...]]:
        """Features of all clean images, in order and in batches."""
        for start in range(0, len(self), _BATCH):
            rows = range(start, min(start + _BATCH, len(self)))
            yield self.take(rows, [0] * len(rows))

    @classmethod
    def compute(
        cls, network: Network, images: Images, vary: Vary, variants: int, *,
        device: torch.device, cache_mb: int, folder: Path | None, progress: Progress,
    ) -> FeatureCache:  # fmt: skip
        """Run the trunk over all variants; or read what an earlier run left in ``folder``.

        Args:
            network: in eval mode, on ``device``.
            images: N images.
            vary: augmentation.
            variants: augmented variants, beside the clean image.
            device: where the network is.
            cache_mb: the most memory that it may take.
            folder: where to keep the features for further runs; ``None``: nowhere.
            progress: told how far it is.

        Raises:
            ConfigError: the features do not fit in ``cache_mb``.
            DatasetError: an image cannot be read.
            TscmError: ``folder`` cannot be written.
        """
        name = _name(network, images, vary, variants)
        if folder and (folder / f"{name}-0.npy").is_file():  # the last one to be written
            return cls([np.load(path, mmap_mode="r") for path in _kept(folder, name)])
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        levels: list[Halves] = []
        jobs = [(i, v) for i in range(len(images)) for v in range(variants + 1)]
        for start, parts in _features(network, _varied(images, vary, jobs, _batch(device)), device):
            if not levels:
                _check_memory([part.shape[1:] for part in parts], len(images), variants + 1, cache_mb)
                levels = [np.empty((len(jobs), *part.shape[1:]), np.float16) for part in parts]
            for level, part in zip(levels, parts, strict=True):
                level[start : start + len(part)] = part.half().cpu().numpy()
            progress("Computing features of the frozen trunk", start + len(parts[0]), len(jobs))
        levels = [level.reshape(len(images), variants + 1, *level.shape[1:]) for level in levels]
        if folder:
            _keep(levels, folder, name)
        return cls(levels)


def describe_images(
    network: Network, images: Images, device: torch.device, progress: Progress, title: str = "Describing images"
) -> Floats:
    """Descriptors of all clean images, ``float32 [N, D]``; the processes of a distributed run share the work.

    The network must be in eval mode and on ``device``.

    Raises:
        DatasetError: an image cannot be read.
    """
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rows = _share(len(images))
    found = np.empty((len(rows), network.dim), np.float32)
    done = 0
    with torch.no_grad():
        for pixels in images.batches(rows, _batch(device)):
            descriptors = network(normalise(pixels.to(device), network)).float()
            found[done : done + len(pixels)] = descriptors.cpu().numpy()
            done += len(pixels)
            progress(title, done, len(rows))
    return _gather(found, len(images), device)


def describe_features(network: Network, features: FeatureCache, device: torch.device) -> Floats:
    """Descriptors of all clean images from the features of the frozen trunk, ``float32 [N, D]``."""
    with torch.no_grad():
        parts = [network.head(*(level.to(device).float() for level in batch)).cpu() for batch in features.clean()]
    return np.asarray(torch.cat(parts).float().numpy(), np.float32)


def _share(count: int) -> range:
    """The images that this process describes: a contiguous part."""
    if not processes.is_initialized():
        return range(count)
    size = -(-count // processes.get_world_size())
    start = min(count, processes.get_rank() * size)
    return range(start, min(count, start + size))


def _gather(found: Floats, count: int, device: torch.device) -> Floats:
    """The rows of all processes, in order, on each of them."""
    if not processes.is_initialized():
        return found
    size = -(-count // processes.get_world_size())
    padded = torch.zeros(size, found.shape[1], device=device)
    padded[: len(found)] = torch.from_numpy(found)
    parts = [torch.empty_like(padded) for _ in range(processes.get_world_size())]
    processes.all_gather(parts, padded)
    return np.asarray(torch.cat(parts)[:count].cpu().numpy(), np.float32)


def _batch(device: torch.device) -> int:
    return _GPU_BATCH if device.type == "cuda" else _BATCH


def _varied(images: Images, vary: Vary, jobs: list[tuple[int, int]], batch: int) -> Iterator[Tensor]:
    """Batches of variants, made ahead by threads."""

    def one(job: tuple[int, int]) -> Rgb:
        image = images[job[0]]
        return vary(image, np.random.default_rng([_SEED, *job])) if job[1] else image

    with ThreadPoolExecutor(2) as pool:
        ahead = [pool.submit(one, job) for job in jobs[: 2 * batch]]
        for start in range(0, len(jobs), batch):
            part, ahead = ahead[:batch], ahead[batch:]
            ahead += [pool.submit(one, job) for job in jobs[start + 2 * batch : start + 3 * batch]]
            yield torch.from_numpy(np.stack([future.result() for future in part]))


def _features(
    network: Network, batches: Iterator[Tensor], device: torch.device
) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
    start = 0
    for pixels in batches:
        with torch.no_grad():
            parts = network.features(normalise(pixels.to(device), network))
        yield start, parts
        start += len(pixels)


def _check_memory(shapes: list[Any], images: int, variants: int, cache_mb: int) -> None:
    needed = sum(int(np.prod(shape)) for shape in shapes) * 2 * images * variants // 1_000_000 + 1
    if needed > cache_mb:
        raise ConfigError(
            f"the features of {images} images in {variants} variants take {needed} MB, but data.cache_mb allows "
            f"{cache_mb}: raise it, or lower freeze.variants"
        )


def _name(network: Network, images: Images, vary: Vary, variants: int) -> str:
    """A hash of all that the features depend on."""
    digest = hashlib.sha256(repr((network.spec, network.mean, network.std, images.size, variants)).encode())
    digest.update(repr(getattr(vary, "config", vary)).encode())
    for name, tensor in network.state_dict().items():
        if name.split(".", 1)[0] in network.trunk_parts:
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
    for path in images.paths:
        status = path.stat()
        digest.update(f"{path}|{status.st_size}|{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:24]


def _kept(folder: Path, name: str) -> list[Path]:
    """The files of all levels, in their order."""
    return sorted(folder.glob(f"{name}-*.npy"), key=lambda path: int(path.stem.rpartition("-")[2]))


def _keep(levels: Sequence[Halves], folder: Path, name: str) -> None:
    """Written last level first, each whole or not at all: if level 0 is there, all are."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in reversed(range(len(levels))):
            part = folder / f".{name}-{number}.{os.getpid()}.part"
            with part.open("wb") as file:
                np.save(file, levels[number])
            part.replace(folder / f"{name}-{number}.npy")
    except OSError as error:
        raise TscmError(f"features cannot be kept in {folder}: {error.strerror}") from error
