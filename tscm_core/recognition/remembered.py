"""What a loop detector remembers of a map, made while it still works with another one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from tscm_core.recognition.evidence import FeatureShelf, LoadFeatures, decoded
from tscm_core.recognition.place_memory import PlaceMemory
from tscm_core.recognition.records import Keyframe, Loop

_CHUNK = 512


@dataclass(frozen=True, slots=True)
class Remembered:
    """The places of a map, and where their features are."""

    memory: PlaceMemory
    shelf: FeatureShelf


def remembered(
    dim: int,
    keyframes: Iterable[Keyframe],
    loops: Iterable[Loop],
    load_features: LoadFeatures | None,
    *,
    bounded: bool,
) -> Remembered:
    """The places of ``keyframes``, in the order of their ids, with descriptors of ``dim`` numbers.

    Args:
        dim: length of a descriptor.
        keyframes: taken one after the other; not all need to fit into memory.
        loops: those that they closed.
        load_features: where stored features are read from; without it all of them are kept in memory.
        bounded: whether keyframes may have to be given up; then no image has to wait until it is known which.
    """
    memory, shelf = PlaceMemory(dim), FeatureShelf(load_features)
    following = iter(keyframes)
    while chunk := list(itertools.islice(following, _CHUNK)):
        memory.add(chunk)
        if load_features is None:
            _shelve(shelf, chunk)
    memory.add((), list(loops))
    if bounded:
        memory.watch_spacing()
    return Remembered(memory, shelf)


def _shelve(shelf: FeatureShelf, keyframes: Iterable[Keyframe]) -> None:
    for keyframe in keyframes:
        features = decoded(keyframe.features)
        if features is not None:
            shelf.put(keyframe.id, features)
