"""What the numbers of a map may be: whoever forged a row could forge its checksum too.

What a map writes itself is within these bounds, so that no map is refused that this program made.
"""

from __future__ import annotations

import math
import struct

from tscm_core.maps.map_format import KEYFRAMES, LOOPS, SESSIONS, Row, Table

MOST_ID = 2**32 - 1
"""Keyframes have 32 bits in ``tscm_msgs``."""
MOST_COUNT = 2**31 - 1

_COVARIANCE = struct.Struct("<36d")
_POSE = "rrrrrrrt"
_KINDS = {SESSIONS.name: "iiti", KEYFRAMES.name: f"iiii{_POSE.upper()}rbbB", LOOPS.name: "iiiirriiiRRRRRRRIB"}
"""Of the columns of each table, as SQLite names them by their first letter; capitals may be NULL."""
_OPTIONAL = {SESSIONS.name: slice(0), KEYFRAMES.name: slice(4, 12), LOOPS.name: slice(9, 18)}
"""Columns that are NULL together."""
_TYPES = {"i": int, "r": float, "t": str, "b": bytes}


def value_problem(table: Table, row: Row) -> str:
    """What no map can have written in a row whose checksum is right: a clause; empty if there is nothing.

    The row is as ``Table.select`` gives it. The schema's checks are made again here, since ``PRAGMA integrity_check``
    leaves them out where the file is opened for reading only (SQLite 3.40).
    """
    if not all(map(_is_of_kind, row, _KINDS[table.name])):
        return "one of its values is of another type"
    nulls = row[_OPTIONAL[table.name]].count(None)
    if nulls not in (0, len(row[_OPTIONAL[table.name]])):
        return "half of its pose is missing"
    if not all(math.isfinite(value) for value in row if isinstance(value, float)):
        return "one of its numbers is not finite"
    if table is KEYFRAMES and not 1 <= row[1] <= MOST_ID:
        return f"keyframes have ids from 1 to {MOST_ID}"
    return _loop_problem(row) if table is LOOPS else ""


def _is_of_kind(value: object, kind: str) -> bool:
    return type(value) is _TYPES[kind.lower()] or (value is None and kind.isupper())


def _loop_problem(row: Row) -> str:
    _, _, _, rank, _, _, *counts = row[:9]
    if not all(0 <= count <= MOST_COUNT for count in (rank, *counts)):
        return "one of its counts is out of range"
    metric_scale, covariance = row[-2:]
    if covariance is None:
        return ""
    if metric_scale not in (0, 1):
        return "its metric_scale is neither 0 nor 1"
    if len(covariance) != _COVARIANCE.size or not all(map(math.isfinite, _COVARIANCE.unpack(covariance))):
        return "its covariance is not 36 finite numbers"
    return ""
