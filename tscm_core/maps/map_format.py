"""What stands in a map file: its tables, how records become rows and back, and the checksums over them.

Every row carries a CRC-32 over everything else in it; a saved copy carries, in ``meta``, a SHA-256 over
``meta`` and the checksums of all rows, so that a changed row and a missing one are both noticed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import sqlite3
import struct
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tscm_core.recognition.precision import decode_descriptor, encode_descriptor, is_unit_length
from tscm_core.recognition.records import Candidate, Keyframe, Loop, Pose, RelativePose, Status

APPLICATION_ID = 0x7453434D
"""The letters «tSCM» where SQLite keeps the kind of a file."""

FORMAT = 1
"""Version of this format; a reader refuses what is newer."""

META_KEYS = frozenset({"format", "model_id", "dim", "created", "writer", "digest"})

Row = tuple[Any, ...]

POSE_COLUMNS = "px, py, pz, qx, qy, qz, qw, frame_id"
_RELATIVE_POSE = "tx, ty, tz, qx, qy, qz, qw, metric_scale, covariance"
_COVARIANCE = struct.Struct("<36d")
_AT_ONCE = 10_000


def _typed(columns: str, kind: str, *, optional: bool = False) -> str:
    """Columns of one SQLite type; the check holds other programs, and damage, to it."""
    allowed = f"('{kind}', 'null')" if optional else f"('{kind}')"
    must = "" if optional else "NOT NULL "
    return ", ".join(f"{name} {kind} {must}CHECK (typeof({name}) IN {allowed})" for name in columns.split(", "))


def _all_or_none(columns: str) -> str:
    names = columns.split(", ")
    return f"CHECK ({' + '.join(f'({name} IS NULL)' for name in names)} IN (0, {len(names)}))"


SCHEMA = (
    f"CREATE TABLE meta ({_typed('key', 'text')} PRIMARY KEY, {_typed('value', 'text')}) WITHOUT ROWID",
    f"""CREATE TABLE sessions (
        {_typed("crc", "integer")}, number INTEGER PRIMARY KEY,
        {_typed("name", "text")} UNIQUE, {_typed("started_ns", "integer")}
    )""",
    f"""CREATE TABLE keyframes (
        {_typed("crc", "integer")}, id INTEGER PRIMARY KEY,
        session INTEGER NOT NULL REFERENCES sessions (number), {_typed("stamp_ns", "integer")},
        {_typed("px, py, pz, qx, qy, qz, qw", "real", optional=True)},
        {_typed("frame_id", "text", optional=True)},
        {_typed("travelled_m", "real")}, {_typed("descriptor, thumbnail", "blob")},
        {_typed("features", "blob", optional=True)},
        {_all_or_none(POSE_COLUMNS)}
    )""",
    f"""CREATE TABLE loops (
        {_typed("crc", "integer")},
        keyframe_id INTEGER NOT NULL REFERENCES keyframes (id),
        match_id INTEGER NOT NULL REFERENCES keyframes (id),
        {_typed("rank", "integer")}, {_typed("similarity, ratio", "real")},
        {_typed("temporal_support, matches, inliers", "integer")},
        {_typed("tx, ty, tz, qx, qy, qz, qw", "real", optional=True)},
        metric_scale INTEGER CHECK (metric_scale IS NULL OR metric_scale IN (0, 1)),
        {_typed("covariance", "blob", optional=True)} CHECK (ifnull(length(covariance), 288) = 288),
        PRIMARY KEY (keyframe_id, match_id),
        {_all_or_none(_RELATIVE_POSE)}
    ) WITHOUT ROWID""",
)
"""Any change but one of white space makes another :data:`FORMAT`: files are compared with it, word by word.

Checksums come first in each row: reading them does not mean walking through the images.
"""


@dataclass(frozen=True, slots=True)
class Table:
    """How the rows of one table are written and read: always all columns, the checksum first."""

    name: str
    thing: str
    columns: str
    order: str

    @property
    def insert(self) -> str:
        """The statement that stores a row."""
        marks = ", ".join("?" * len(self.columns.split(", ")))
        return f"INSERT INTO {self.name} ({self.columns}) VALUES ({marks})"

    @property
    def select(self) -> str:
        """The statement that reads all rows."""
        return f"SELECT {self.columns} FROM {self.name} ORDER BY {self.order}"


SESSIONS = Table("sessions", "session", "crc, number, name, started_ns", "number")
KEYFRAMES = Table(
    "keyframes",
    "keyframe",
    f"crc, id, session, stamp_ns, {POSE_COLUMNS}, travelled_m, descriptor, thumbnail, features",
    "id",
)
LOOPS = Table(
    "loops",
    "loop of keyframe",
    "crc, keyframe_id, match_id, rank, similarity, ratio, temporal_support, matches, inliers, " + _RELATIVE_POSE,
    "keyframe_id, match_id",
)
TABLES = (SESSIONS, KEYFRAMES, LOOPS)
"""In the order in which rows may refer to one another."""


def unused_session(name: str, taken: Collection[str]) -> str:
    """``name``, or ``name-2``, ``name-3`` and so on if it is taken."""
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return next(item for item in itertools.chain([name], numbered) if item not in taken)


def row_crc(content: Sequence[Any]) -> int:
    """CRC-32 over a row but for its checksum: JSON of scalars and lengths of blobs, then the blobs."""
    scalars = [[len(value)] if isinstance(value, bytes) else value for value in content]
    crc = zlib.crc32(json.dumps(scalars).encode())
    for value in content:
        if isinstance(value, bytes):
            crc = zlib.crc32(value, crc)
    return crc


def digest(db: sqlite3.Connection) -> str:
    """SHA-256 over ``meta`` but for the digest itself, and over the checksums of all rows in order."""
    total = hashlib.sha256()
    total.update(json.dumps(db.execute("SELECT * FROM meta WHERE key != 'digest' ORDER BY key").fetchall()).encode())
    for table in TABLES:
        rows = db.execute(f"SELECT crc FROM {table.name} ORDER BY {table.order}")
        total.update(f"[{json.dumps(table.name)}, [".encode())  # the JSON of all at once would hold up other threads
        between = ""
        while some := rows.fetchmany(_AT_ONCE):
            total.update((between + json.dumps([crc for (crc,) in some])[1:-1]).encode())
            between = ", "
        total.update(b"]]")
    return total.hexdigest()


def session_row(number: int, name: str, started_ns: int) -> Row:
    """The row of one session."""
    return _with_crc(number, name, int(started_ns))


def keyframe_row(keyframe: Keyframe, session: int, dim: int) -> Row:
    """The row of ``keyframe`` in session number ``session``.

    Raises:
        ValueError: a number is not finite, or the descriptor is not a unit vector of ``dim`` numbers.
    """
    if keyframe.descriptor.shape != (dim,) or not is_unit_length(keyframe.descriptor):
        raise ValueError(f"its descriptor is not a unit vector of {dim} numbers")
    return _with_crc(
        int(keyframe.id), session, int(keyframe.stamp_ns),
        *_pose_columns(keyframe.pose), _real(keyframe.travelled_m),
        encode_descriptor(keyframe.descriptor), bytes(keyframe.thumbnail_jpeg),
        None if keyframe.features is None else bytes(keyframe.features),
    )  # fmt: skip


def loop_row(loop: Loop) -> Row:
    """The row of ``loop``.

    Raises:
        ValueError: a number is not finite, the covariance is not 6 x 6, or the loop was not accepted.
    """
    match = loop.candidate
    if match.status is not Status.ACCEPTED:
        raise ValueError(
            f"its loop to keyframe {match.keyframe_id} is {match.status.name}; only accepted ones are kept"
        )
    return _with_crc(
        int(loop.keyframe_id), int(match.keyframe_id), int(match.rank),
        _real(match.similarity), _real(match.ratio),
        int(match.temporal_support), int(match.matches), int(match.inliers),
        *_relative_pose_columns(match.relative_pose),
    )  # fmt: skip


def row_keyframe(row: Row, sessions: Mapping[int, str], dim: int) -> Keyframe:
    """The keyframe of a row that was verified; ``sessions`` has the names by number."""
    _, id_, session, stamp_ns, *pose, travelled_m, descriptor, thumbnail, features = row
    return Keyframe(
        id_,
        sessions[session],
        stamp_ns,
        _pose(pose),
        travelled_m,
        decode_descriptor(descriptor, dim),
        thumbnail,
        features,
    )


def row_loop(row: Row, sessions: Mapping[int, str]) -> Loop:
    """The loop of a row of ``LOOPS`` that was verified, followed by session, stamp and pose of the match."""
    _, keyframe_id, match_id, rank, similarity, ratio, support, matches, inliers, *relative = row[:18]
    session, stamp_ns, *pose = row[18:]
    return Loop(
        keyframe_id,
        Candidate(
            match_id, sessions[session], stamp_ns, _pose(pose), similarity, ratio, rank, Status.ACCEPTED,
            support, matches, inliers, _relative_pose(relative),
        ),
    )  # fmt: skip


def _with_crc(*content: Any) -> Row:
    return (row_crc(content), *content)


def _real(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"one of its numbers is {value}")
    return float(value) + 0.0  # SQLite keeps no sign of zero, and the checksum must survive that


def _pose_columns(pose: Pose | None) -> Row:
    if pose is None:
        return (None,) * 8
    return (*map(_real, (*pose.position, *pose.orientation)), pose.frame_id)


def _pose(columns: Sequence[Any]) -> Pose | None:
    px, py, pz, qx, qy, qz, qw, frame_id = columns
    return None if px is None else Pose((px, py, pz), (qx, qy, qz, qw), frame_id)


def _relative_pose_columns(pose: RelativePose | None) -> Row:
    if pose is None:
        return (None,) * 9
    if len(pose.covariance) != 36:
        raise ValueError(f"the covariance of its loop has {len(pose.covariance)} numbers instead of 36")
    covariance = _COVARIANCE.pack(*map(_real, pose.covariance))
    return (*map(_real, (*pose.translation, *pose.orientation)), int(pose.metric_scale), covariance)


def _relative_pose(columns: Sequence[Any]) -> RelativePose | None:
    tx, ty, tz, qx, qy, qz, qw, metric_scale, covariance = columns
    if tx is None:
        return None
    return RelativePose((tx, ty, tz), (qx, qy, qz, qw), bool(metric_scale), _COVARIANCE.unpack(covariance))
