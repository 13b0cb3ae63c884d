"""Local features and thumbnails of single keyframes, read while the map is being written."""

from __future__ import annotations

import threading
from pathlib import Path

from tscm_core.errors import MapFileError
from tscm_core.maps.map_files import connect, map_errors


class BlobReader:
    """Reads over a connection of its own, so that it waits for no transaction, however long. Any thread may use it.

    It sees what is committed: a keyframe as soon as it is stored, another map once it has taken the place of this one.
    """

    def __init__(self, path: Path) -> None:
        """Open the map at ``path``, which somebody else keeps open for writing."""
        self._path = path
        self._reading = threading.Lock()
        self._db = connect(path, "mode=ro")
        self._open = True

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        with self._reading:
            self._open = False
            self._db.close()

    def features(self, keyframe_id: int) -> bytes | None:
        """The local features of one keyframe; ``None`` if it has none, or is not in the map.

        Raises:
            MapFileError: they cannot be read, or the map is closed.
        """
        return self._blob("features", keyframe_id)

    def thumbnail(self, keyframe_id: int) -> bytes | None:
        """The thumbnail of one keyframe as JPEG; ``None`` if it is not in the map.

        Raises:
            MapFileError: it cannot be read, or the map is closed.
        """
        return self._blob("thumbnail", keyframe_id)

    def _blob(self, column: str, keyframe_id: int) -> bytes | None:
        with self._reading, map_errors(self._path, "cannot be read"):
            if not self._open:
                raise MapFileError(self._path, "is closed: open it again")
            row = self._db.execute(f"SELECT {column} FROM keyframes WHERE id = ?", (keyframe_id,)).fetchone()
            return None if row is None else row[0]
