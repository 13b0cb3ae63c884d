"""Drives that several of the maps to merge hold: taken once where they are the same, refused where they are not.

Two robots may have begun with one map, or one map may be an earlier state of another. Their rows are then equal word by
word: a session of the same name that began at the same moment, and keyframes of the same ids and checksums. Each map
may have given up others of them since, and one may have gone on with the drive.
"""

from __future__ import annotations

import bisect
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tscm_core.errors import MapFileError
from tscm_core.maps.map_reader import MapInfo, MapReader
from tscm_core.recognition.records import Keyframe


@dataclass(slots=True)
class Drive:
    """One drive of the merged map that another map may hold too.

    Attributes:
        number: of its session in the merged map.
        source: the map from which it was taken first.
        crcs: checksums of its keyframes by the ids that they had.
        ids: their ids in the merged map by those that they had.
        order: those that they had, ascending.
    """

    number: int
    source: Path
    crcs: dict[int, int] = field(default_factory=dict)
    ids: dict[int, int] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)

    def take(self, id_: int, here: int, crc: int) -> None:
        """Remember a keyframe that is copied, and its id in the merged map."""
        self.crcs[id_], self.ids[id_] = crc, here
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


class SharedDrives:
    """Knows the drives of the maps that were copied, as far as another one to merge may hold them too."""

    def __init__(self, infos: Sequence[MapInfo]) -> None:
        keys = Counter((session.name, session.started_ns) for info in infos for session in info.sessions)
        starts = Counter(start for info in infos for start in {session.started_ns for session in info.sessions})
        self._keys = {key for key, count in keys.items() if count > 1}
        self._starts = {start for start, count in starts.items() if count > 1}
        self._drives: dict[tuple[str, int], list[Drive]] = {}
        self._known: dict[tuple[int, int, int], tuple[Path, str]] = {}
        self._read: tuple[Path, dict[int, dict[int, int]]] | None = None

    def same(self, reader: MapReader, number: int, name: str, started_ns: int) -> Drive | None:
        """The drive that was copied already of which session ``number`` of a map is a part, or the other way round.

        Raises:
            MapFileError: they are one drive, but differ in a keyframe.
        """
        if (name, started_ns) not in self._keys:
            return None
        crcs = self._checksums(reader, number)
        for drive in self._drives.get((name, started_ns), ()):
            common = crcs.keys() & drive.crcs.keys()
            other = sorted(id_ for id_ in common if crcs[id_] != drive.crcs[id_])
            if not other and (common or not crcs or not drive.crcs):
                return drive
            if other and len(other) < len(common):
                raise MapFileError(
                    reader.path,
                    f"holds session {name} as map {drive.source} does, but another keyframe {other[0]}: one of them "
                    f"was changed; merge only one of the two",
                )
        return None

    def begin(self, reader: MapReader, number: int, name: str, started_ns: int, here: int) -> Drive | None:
        """Remember a session that is copied, as number ``here``; ``None`` if no other map can hold it."""
        if (name, started_ns) not in self._keys:
            return None
        drive = Drive(here, reader.path, self._checksums(reader, number))
        self._drives.setdefault((name, started_ns), []).append(drive)
        return drive

    def _checksums(self, reader: MapReader, number: int) -> dict[int, int]:
        """Those of one session; all of a map are read at once, however many of its drives others may have."""
        if self._read is None or self._read[0] != reader.path:
            self._read = reader.path, reader.checksums()
        return self._read[1].get(number, {})

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
