"""A map as files that any program reads: images, tables, descriptors and a pose graph.

===================  ===================================================================================================
``images/<id>.jpg``  the thumbnails, byte for byte; the id in ten digits, so that names sort like ids
``keyframes.csv``    all keyframes in the order of their ids, which is that of the rows of ``descriptors.npy``
``positions.csv``    those with a pose, in the same order: image, x, y (m), yaw (deg), session, stamp, frame, row
``descriptors.npy``  ``[N, D]``, float32 or the float16 in which the map keeps them
``loops.g2o``        see :mod:`tscm_core.maps.map_g2o`
``loops.csv``        all accepted loops with all evidence, and why those that are no edge of the graph are none
===================  ===================================================================================================

The folder is filled beside its place and renamed once all is on the disk.
"""

from __future__ import annotations

import contextlib
import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from tscm_core.maps.fresh_folder import fresh_folder
from tscm_core.maps.map_files import map_errors, real_path
from tscm_core.maps.map_format import KEYFRAMES, SESSIONS, row_keyframe
from tscm_core.maps.map_g2o import EDGE, NO_CAMERA_POSE, EdgeRule, GraphWriter
from tscm_core.maps.map_reader import MapReader
from tscm_core.recognition.poses import yaw_rad
from tscm_core.recognition.records import Keyframe

Progress = Callable[[int, int], None]
"""Called with the keyframes done and those in all."""

POSITIONS, ROWS, DESCRIPTORS, LOOPS, GRAPH, IMAGES = (
    "positions.csv", "keyframes.csv", "descriptors.npy", "loops.csv", "loops.g2o", "images",
)  # fmt: skip
_NAMES = (POSITIONS, ROWS, DESCRIPTORS, LOOPS, GRAPH, IMAGES)


@dataclass(frozen=True, slots=True)
class Exported:
    """A folder that was written: its keyframes, those with a pose and with a thumbnail, loops, and edges of the graph.

    ``frames`` are the coordinate frames of the poses; ``notes`` are for people, one sentence each.
    """

    path: Path
    keyframes: int
    with_pose: int
    images: int
    sessions: int
    frames: tuple[str, ...]
    loops: int
    loop_edges: int
    odometry_edges: int
    notes: tuple[str, ...]


def export(
    source: Path,
    out: Path,
    rule: EdgeRule | None = None,
    *,
    half: bool = False,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> Exported:
    """Write the map ``source`` to the folder ``out``, which is complete or not there.

    Args:
        source: a map file, which is only read; one that a node is driving on is taken as it is at one moment.
        out: the folder to make.
        rule: which edges the pose graph gets.
        half: write descriptors as float16 instead of float32; both hold the same numbers.
        overwrite: whether an export that is there gives way, once the new one is complete.
        progress: see :data:`Progress`.

    Raises:
        MapFileError: the map cannot be trusted.
        DatasetError: ``out`` is there and may not be replaced, or cannot be written.
    """
    with MapReader(source) as reader, fresh_folder(real_path(out), overwrite, _NAMES) as folder:
        return _Export(reader, folder, rule or EdgeRule(), half, progress).run(out)


class _Export:
    """One pass over the keyframes and one over the loops."""

    def __init__(self, reader: MapReader, folder: Path, rule: EdgeRule, half: bool, progress: Progress) -> None:
        self._reader = reader
        self._folder = folder
        self._rule = rule
        self._dtype = np.dtype("<f2" if half else "<f4")
        self._progress = progress
        self._images = self._posed = 0
        self._frames: set[str] = set()

    def run(self, out: Path) -> Exported:
        """Write all files."""
        (self._folder / IMAGES).mkdir()
        count = self._reader.count
        with contextlib.ExitStack() as stack:

            def create(name: str) -> IO[str]:
                return stack.enter_context((self._folder / name).open("w", newline="", encoding="utf-8"))

            graph = GraphWriter(create(GRAPH), create(LOOPS), self._rule)
            self._write_keyframes(count, create, graph)
            for loop in self._reader.loops():
                graph.loop(loop)
        if not self._posed:
            (self._folder / POSITIONS).unlink()  # readers would take a table without lines for a damaged one
        sessions = len(self._reader.sessions())
        return Exported(
            out, count, self._posed, self._images, sessions, tuple(sorted(self._frames)),
            graph.loops, graph.loop_edges, graph.odometry_edges, tuple(self._notes(count, sessions, graph)),
        )  # fmt: skip

    def _notes(self, count: int, sessions: int, graph: GraphWriter) -> Iterator[str]:
        if self._posed < count:
            yield (
                f"{count - self._posed} of {count} keyframes have no pose: they are in {ROWS} and {DESCRIPTORS}, and "
                f"not in {POSITIONS} and {GRAPH}"
            )
        if self._images < count:
            yield f"{count - self._images} of {count} keyframes have no thumbnail"
        if self._posed and sessions > 1:
            yield (
                f"the poses of the {sessions} sessions are each from the odometry of its own drive: distances between "
                f"sessions mean something only where drives share an origin"
            )
        for outcome, number in sorted(graph.outcomes.items()):
            if outcome != EDGE:
                told = ": tell where the camera is on the robot by --camera-pose" if outcome == NO_CAMERA_POSE else ""
                yield f"{number} of {graph.loops} loops are in {LOOPS} alone, not in {GRAPH} ({outcome}{told})"

    def _write_keyframes(self, count: int, create: Callable[[str], IO[str]], graph: GraphWriter) -> None:
        positions, rows = csv.writer(create(POSITIONS)), csv.writer(create(ROWS))
        positions.writerow(["image", "x", "y", "yaw", "session", "stamp_ns", "frame_id", "row"])
        rows.writerow(["row", "id", "image", "session", "stamp_ns", "travelled_m", "has_pose"])
        with (self._folder / DESCRIPTORS).open("wb") as file:
            shape = {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False}
            npy.write_array_header_1_0(file, shape | {"shape": (count, self._reader.header.dim)})
            for row, keyframe in enumerate(self._keyframes()):
                image = self._write_image(keyframe)
                file.write(keyframe.descriptor.astype(self._dtype).tobytes())
                pose = graph.keyframe(keyframe)
                facts = [keyframe.session, keyframe.stamp_ns]
                rows.writerow([row, keyframe.id, image, *facts, repr(keyframe.travelled_m), int(pose is not None)])
                if pose is not None:
                    x, y, _ = pose.position
                    yaw = math.degrees(yaw_rad(pose))
                    positions.writerow([image, repr(x), repr(y), repr(yaw), *facts, pose.frame_id, row])
                    self._posed += 1
                    self._frames.add(pose.frame_id)
                self._progress(row + 1, count)

    def _keyframes(self) -> Iterator[Keyframe]:
        with map_errors(self._reader.path, "cannot be read"):
            names = {row[1]: row[2] for row in self._reader.rows(SESSIONS)}
            for row in self._reader.rows(KEYFRAMES):
                yield row_keyframe(row, names, self._reader.header.dim)

    def _write_image(self, keyframe: Keyframe) -> str:
        """Write the thumbnail, if there is one, and give its name."""
        name = f"{keyframe.id:010d}.jpg"
        if keyframe.thumbnail_jpeg:
            (self._folder / IMAGES / name).write_bytes(keyframe.thumbnail_jpeg)
            self._images += 1
        return name
