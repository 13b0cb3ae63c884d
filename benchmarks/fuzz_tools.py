"""What ``tscm map merge``, ``export`` and ``check --repair`` make of hostile maps, judged by what they leave behind."""

from __future__ import annotations

import csv
import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
from fuzz_log import log_mutator
from fuzz_rows import MapMutator
from fuzz_seeds import CONFIG, Target, killed_map, map_seeds, small_map

from tscm_core.datasets.positions import read_positions
from tscm_core.errors import TscmError
from tscm_core.maps import map_export
from tscm_core.maps.map_export import Exported, export
from tscm_core.maps.map_g2o import FORWARD, EdgeRule
from tscm_core.maps.map_merge import merge
from tscm_core.maps.map_reader import check, inspect
from tscm_core.maps.map_repair import repair

_MOST_CSV = 2**31 - 1
_EDGE, _VERTEX = "EDGE_SE3:QUAT", "VERTEX_SE3:QUAT"


class Folder:
    """A folder in which nothing may be but what was put there, and what the tool was asked to make."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        folder.mkdir()

    def put(self, name: str, data: bytes) -> Path:
        """A file of the input."""
        path = self.path / name
        path.write_bytes(data)
        return path

    def require(self, files: dict[Path, bytes], *made: Path) -> None:
        """The files of the input are as they were, and nothing else is here."""
        assert {path: path.read_bytes() for path in files} == files, "an input was written to"
        there = set(self.path.iterdir())
        assert there == {*files, *made}, f"left behind: {there ^ {*files, *made}}"


def merge_target(folder: Path) -> Target:
    """A hostile map and a good one of another drive, or of the same, merged in either order."""
    mutator, place = MapMutator(folder, seeds := map_seeds(folder)), Folder(folder / "merged")
    other = place.put("other.tscm", small_map(folder / "other.tscm", 3, started_ns=7))
    same = place.put("same.tscm", seeds[-1])
    out = place.path / "out.tscm"
    good = {path: path.read_bytes() for path in (other, same)}

    def run(data: bytes) -> None:
        out.unlink(missing_ok=True)
        hostile, choice = place.put("hostile.tscm", data), zlib.crc32(data)
        pair = [(hostile, other), (other, hostile), (hostile, same), (same, hostile)][choice % 4]
        files, made = good | {hostile: data}, False
        try:
            merged = merge(pair, out, CONFIG)
            made = True
        finally:
            place.require(files, *([out] if made else []))
        assert check(hostile) == [], "a damaged map was merged"
        assert check(out) == [], "the merged map is damaged"
        info, loops = inspect(out), merged.carried + len(merged.between)
        assert (info.keyframes, info.loops) == (merged.keyframes, loops)
        assert [(item.name, item.keyframes) for item in info.sessions] == [
            (item.name, item.keyframes) for item in merged.sessions
        ]

    return Target(seeds, run, mutate=mutator)


def export_target(folder: Path) -> Target:
    """A hostile map as files that others read: what is whole is exported, and every number in the files can be read."""
    mutator, place = MapMutator(folder, seeds := map_seeds(folder)), Folder(folder / "exported")
    out = place.path / "out"

    def run(data: bytes) -> None:
        hostile, choice = place.put("hostile.tscm", data), zlib.crc32(data)
        rule = EdgeRule(FORWARD if choice & 1 else None, odometry=bool(choice & 2))
        problems, made = check(hostile), False
        try:
            with mock.patch.object(os, "sync", return_value=None):  # of the whole machine, thousands of times
                done = export(hostile, out, rule, half=bool(choice & 4), overwrite=True)
            made = True
        except TscmError:
            assert problems, "a map that is whole was not exported"
            raise
        finally:
            place.require({hostile: data}, *([out] if made or out.exists() else []))
        assert not problems, "a damaged map was exported"
        require_export(out, done, inspect(hostile).dim)

    return Target(seeds, run, mutate=mutator)


def require_export(out: Path, done: Exported, dim: int) -> None:
    """All that an export says is in its files, and nothing that a reader would stumble over."""
    descriptors = np.load(out / map_export.DESCRIPTORS)
    assert descriptors.shape == (done.keyframes, dim)
    assert np.abs(np.linalg.norm(descriptors.astype(np.float64), axis=1) - 1.0).max(initial=0.0) < 0.02
    before = csv.field_size_limit(_MOST_CSV)
    try:
        rows, loops = table(out / map_export.ROWS), table(out / map_export.LOOPS)
    finally:
        csv.field_size_limit(before)
    assert [int(row["row"]) for row in rows] == list(range(done.keyframes))
    assert len(loops) == done.loops
    positions = out / map_export.POSITIONS
    posed = read_positions(positions) if positions.exists() else {}  # by our own reader: numbers are finite
    assert len(posed) == done.with_pose
    assert len(list((out / map_export.IMAGES).iterdir())) == done.images
    vertices, edges = read_graph((out / map_export.GRAPH).read_text("utf-8"))
    assert vertices == {int(row["id"]) for row in rows if row["has_pose"] == "1"}
    assert edges == done.loop_edges + done.odometry_edges


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, all as long as its head."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert all(None not in row and None not in row.values() for row in rows)
    return rows


def read_graph(text: str) -> tuple[set[int], int]:
    """The vertices of a graph in the text of g2o, and how many edges it has: read as its format says, all of it."""
    vertices: set[int] = set()
    edges = 0
    for tag, *fields in map(str.split, text.splitlines()):
        ids = 1 if tag == _VERTEX else 2
        numbers = list(map(float, fields[ids:]))
        assert all(map(math.isfinite, numbers)), f"{tag} {fields}"
        assert abs(math.hypot(*numbers[3:7]) - 1.0) < 1e-6, f"{tag} {fields}"
        if tag == _VERTEX:
            assert len(numbers) == 7
            assert int(fields[0]) not in vertices
            vertices.add(int(fields[0]))
            continue
        assert (tag, len(numbers)) == (_EDGE, 28)
        assert {int(fields[0]), int(fields[1])} <= vertices
        assert is_information(numbers[7:]), fields
        edges += 1
    return vertices, edges


def is_information(upper: Sequence[float]) -> bool:
    """Whether 21 numbers are the upper triangle of a matrix that weighs every error with no less than nothing."""
    matrix = np.zeros((6, 6))
    matrix[np.triu_indices(6)] = upper
    matrix += np.triu(matrix, 1).T
    scale = np.sqrt(np.diag(matrix))
    if not (scale > 0.0).all():
        return False
    return bool(np.linalg.eigvalsh(matrix / scale[:, None] / scale)[0] > -1e-6)


def repair_target(folder: Path) -> Target:
    """A hostile map, or a hostile log beside a good one: what a repair makes of it is whole."""
    maps, place = MapMutator(folder, seeds := map_seeds(folder)), Folder(folder / "repaired")
    main, log = killed_map(folder / "live.tscm")
    logs, out = log_mutator(log), place.path / "out.tscm"
    path, beside = (place.path / f"hostile.tscm{suffix}" for suffix in ("", "-wal"))

    def is_log(data: bytes) -> bool:
        return data[:3] == log[:3]

    def run(data: bytes) -> None:
        files = {path: main, beside: data} if is_log(data) else {path: data}
        for old in place.path.iterdir():
            old.unlink()
        for file, content in files.items():
            file.write_bytes(content)
        problems, made = check(path), False
        try:
            done = repair(path, out)
            made = done.path == out
        finally:
            place.require(files, *([out] if made else []))
        assert made == bool(problems)
        info = inspect(done.path)
        assert check(done.path) == []
        assert (info.keyframes, info.loops) == (done.keyframes_kept, done.loops_kept)
        assert min(done.keyframes_lost, done.loops_lost) >= 0

    def mutate(data: bytes, number: int) -> bytes:
        return (logs if is_log(data) else maps)(data, number)

    return Target([*seeds, log, *damaged(seeds)], run, mutate=mutate)


def damaged(maps: Sequence[bytes]) -> list[bytes]:
    """The maps with a page zeroed, each in turn, and cut in the middle: of these there is something to repair."""
    pages = [(whole, at) for whole in maps for at in range(0, len(whole), 4096)]
    zeroed = [whole[:at] + bytes(4096) + whole[at + 4096 :] for whole, at in pages]
    return [*zeroed, *(whole[: len(whole) // 2] for whole in maps)]
