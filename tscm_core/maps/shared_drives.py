"""Drives that several of the maps to merge hold: taken once where they are the same, refused where they are not.

Two robots may have begun with one map, or one map may be an earlier state of another. Their rows are then equal word by
word: a session of the same name that began at the same moment, and keyframes of the same ids and checksums. Each map
may have given up others of them since, and one may have gone on with the drive. Two maps that have no keyframe of a
drive in common hold the same one if a third map shares some with each: so all maps are looked at before one is copied.
"""

from __future__ import annotations

import bisect
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tscm_core.errors import MapFileError
from tscm_core.maps.map_reader import MapInfo, read_checksums
from tscm_core.recognition.records import Keyframe


@dataclass(slots=True, eq=False)
class Drive:
    """One drive that several of the maps hold.

    Attributes:
        name: of its session in those maps.
        crcs: checksums of the keyframes that any of the maps has, and the first one that has it, by their ids there.
        paths: of these maps.
        number: of its session in the merged map; 0 until it begins there.
        ids: of the keyframes that were copied, their ids in the merged map by those that they had.
        order: those that they had, ascending.
    """

    name: str
    crcs: dict[int, tuple[int, Path]]
    paths: set[Path]
    number: int = 0
    ids: dict[int, int] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    _known: list[int] = field(default_factory=list)

    def has_some_of(self, other: Drive) -> bool:
        """Whether a keyframe of ``other`` is one of this drive."""
        return any(id_ in self.crcs and self.crcs[id_][0] == crc for id_, (crc, _) in other.crcs.items())

    def join(self, other: Drive) -> None:
        """Take over the keyframes of ``other``, which is the same drive."""
        self.crcs, self.paths = other.crcs | self.crcs, self.paths | other.paths

    def require_same(self, path: Path, id_: int, crc: int) -> None:
        """Refuse a keyframe of the map at ``path`` that is another one in the map that had it first.

        Raises:
            MapFileError: they are one drive, but one of them was changed.
        """
        known, first = self.crcs.get(id_, (crc, path))
        if known != crc:
            raise MapFileError(
                path,
                f"holds session {self.name} as map {first} does, but another keyframe {id_}: one of them was changed; "
                f"merge only one of the two",
            )

    def take(self, path: Path, id_: int, crc: int, here: int) -> None:
        """Remember a keyframe that is copied from the map at ``path``, and its id in the merged map."""
        self.crcs.setdefault(id_, (crc, path))  # of a map that grew since it was looked at
        self.ids[id_] = here
        bisect.insort(self.order, id_)

    def place_of(self, id_: int) -> int | None:
        """The id in the merged map that stands between those of its neighbours; ``None`` behind all of them.

        As far before its successor as it was: in a map that was copied behind others, the drive has got other ids.
        """
        at = bisect.bisect(self.order, id_)
        if at == len(self.order):
            return None
        before, after = self.ids[self.order[at - 1]] if at else 0, self.order[at]
        here = self.ids[after] - (after - id_)
        return here if here > before else None

    def room_from(self, id_: int) -> int:
        """The lowest id, ``id_`` or less, of the keyframes that follow those copied: later maps may bring the others.

        Whoever copies from there on leaves room for them, so that they come to stand in the order of the drive.
        """
        self._known = self._known or sorted(self.crcs)
        at = bisect.bisect(self.order, id_)
        following = bisect.bisect(self._known, self.order[at - 1] if at else 0)
        return min([id_, *self._known[following : following + 1]])


class SharedDrives:
    """Knows the drives that several of the maps to merge hold."""

    def __init__(self, infos: Sequence[MapInfo]) -> None:
        """Look for them in all maps.

        Raises:
            MapFileError: a map cannot be read.
        """
        keys = Counter((session.name, session.started_ns) for info in infos for session in info.sessions)
        starts = Counter(start for info in infos for start in {session.started_ns for session in info.sessions})
        self._starts = {start for start, count in starts.items() if count > 1}
        self._known: dict[tuple[int, int, int], tuple[Path, str]] = {}
        self._drives: dict[tuple[str, int], list[Drive]] = {key: [] for key, count in keys.items() if count > 1}
        for info in infos:
            shared = {(session.name, session.started_ns) for session in info.sessions} & self._drives.keys()
            for key, crcs in (read_checksums(info.path) if shared else {}).items():
                if key in shared:
                    self._join(info.path, key, crcs)

    def _join(self, path: Path, key: tuple[str, int], crcs: dict[int, int]) -> None:
        """Put what a map holds of a drive to what those before it hold, which may so turn out to be one drive."""
        new = Drive(key[0], {id_: (crc, path) for id_, crc in crcs.items()}, {path})
        same = [drive for drive in self._drives[key] if drive.has_some_of(new)]
        for drive in (*same[1:], new) if same else ():
            same[0].join(drive)
        self._drives[key] = [drive for drive in self._drives[key] if drive not in same[1:]] + ([] if same else [new])

    def drive_of(self, path: Path, name: str, started_ns: int) -> Drive | None:
        """The drive of which a session of a map is a part; ``None`` if no other map can hold it."""
        drives = self._drives.get((name, started_ns))
        if drives is None:
            return None
        if not drives:  # no map has a keyframe of it
            drives.append(Drive(name, {}, set()))
        return next((drive for drive in drives if path in drive.paths), drives[0])

    def refuse_known(self, path: Path, started_ns: int, keyframe: Keyframe) -> None:
        """Remember a keyframe that is copied: a map that was merged itself has it under another id, or session.

        Its place would be there twice, and be a loop with itself.

        Raises:
            MapFileError: it was in another map too.
        """
        if started_ns not in self._starts:
            return
        key = started_ns, keyframe.stamp_ns, zlib.crc32(keyframe.descriptor.tobytes())
        before, session = self._known.setdefault(key, (path, keyframe.session))
        if before != path:
            raise MapFileError(
                path,
                f"holds keyframes of a drive that is in {before} too under other ids, there called {session}: merge "
                f"only maps that have no drive in common, or the same ids for it",
            )
