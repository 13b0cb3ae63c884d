"""The loop detector and the file under it, as one thing that several threads may use."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from tscm_core.config import Config
from tscm_core.errors import MapFileError
from tscm_core.maps.live_file import (
    dropped_on_failure,
    keep_unless_earlier,
    keep_unless_in,
    open_live_file,
    unused_name,
)
from tscm_core.maps.map_copy import refuse_target
from tscm_core.maps.map_files import map_errors, real_path
from tscm_core.maps.map_format import unused_session
from tscm_core.maps.map_store import MapStore
from tscm_core.recognition.descriptor import Describer
from tscm_core.recognition.evidence import stages
from tscm_core.recognition.local_features import LocalFeatures
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.place_memory import Place
from tscm_core.recognition.records import Candidate, Depth, Frame, Intrinsics, Loop, Observation, Rgb
from tscm_core.recognition.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class Saved:
    """A map that was written or read: where, its keyframes, and the copy of what it displaced, if that was kept.

    ``note`` is what a person should know about it, in one sentence; mostly empty.
    """

    path: Path
    keyframes: int
    kept: Path | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Relocalization:
    """What :meth:`LiveMap.relocalize` found: candidates, best first, keyframes searched, and the stages that judged."""

    candidates: tuple[Candidate, ...]
    searched: int
    stages: tuple[str, ...]


class LiveMap:
    """Recognises places and commits every keyframe to the live map file before it is used.

    ``map_path`` is what :meth:`save` and :meth:`load` take when they are given no path; the live file lies beside it.
    """

    def __init__(
        self,
        map_path: Path,
        store: MapStore,
        describer: Describer,
        config: Config,
        session: str,
        notes: tuple[str, ...] = (),
    ) -> None:
        """Use :func:`open_live_map`."""
        self.map_path = map_path
        self.notes = notes
        """What a person should know about how the map was opened, one sentence each."""
        self.describer = describer
        self.fault = ""
        """Why the last keyframe could not be stored; empty when it was."""
        self._store = store
        self._lock = threading.RLock()
        self._saving = threading.Lock()
        self._detector = LoopDetector(describer, config, load_features=store.features)
        self._register(session)
        self._restore()
        if self.unverifiable:
            self.notes += (self.unverifiable,)

    def __enter__(self) -> LiveMap:
        """The map itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    @property
    def live_path(self) -> Path:
        """The file to which keyframes are committed."""
        return self._store.path

    @property
    def size(self) -> int:
        """Keyframes in the map."""
        return len(self._detector.memory)

    @property
    def session(self) -> str:
        """Name of the drive that is under way."""
        return self._detector.session

    def observe(self, frame: Frame) -> Observation:
        """What ``frame`` shows; a keyframe is committed to the file, and only then remembered.

        When it cannot be stored, the observation still stands but has no keyframe; ``fault`` and the reason say why.

        Raises:
            ImageError: the image is not RGB ``uint8 [H, W, 3]``.
            StampError: the frame is not newer than the last one of this session.
            MapFileError: the map was loaded or cleared, but cannot be read back yet.
        """
        with self._lock:
            self._catch_up()
            seen = self._detector.judge(frame)
            if seen.keyframe is None:
                return seen
            watch = Stopwatch()
            try:
                with watch.stage("store"):
                    self._store.add(seen.keyframe, seen.loops)
            except MapFileError as error:
                self.fault = str(error)
                reason = f"{seen.reason}; not remembered: {error}"
                return replace(seen, keyframe=None, map_size=self.size, reason=reason)
            self.fault = ""
            self._detector.remember(seen)
            return replace(seen, stage_times=seen.stage_times + watch.times)

    @property
    def unverifiable(self) -> str:
        """One sentence if the map has keyframes that geometry cannot verify, though it should; else empty."""
        missing = self._store.without_features() if self._detector.config.geometry.enabled else 0
        if not missing:
            return ""
        return (
            f"{missing} of {self.size} keyframes have no local features, as in maps made without geometry: they close "
            f"no loops while geometry.enabled is true"
        )

    @property
    def places(self) -> Sequence[Place]:
        """All places of the map, which grow as keyframes come; another list once the map was loaded or cleared."""
        return self._detector.memory.places

    def loops(self) -> tuple[Loop, ...]:
        """All loops of the map."""
        return tuple(self._store.loops())

    def thumbnail(self, keyframe_id: int) -> bytes | None:
        """The thumbnail of a keyframe as JPEG; ``None`` if it is not in the map."""
        return self._store.thumbnail(keyframe_id)

    def features(self, keyframe_id: int) -> LocalFeatures | None:
        """The local features of a keyframe; ``None`` if it has none."""
        return self._detector.features_of(keyframe_id)

    def relocalize(
        self,
        image: Rgb,
        top_places: int = 0,
        seen_ns: int | None = None,
        intrinsics: Intrinsics | None = None,
        depth: Depth | None = None,
    ) -> Relocalization:
        """The places of the map that ``image`` may show, best first, judged as those of a frame with none before it.

        Adds nothing, and holds up images only for the search. ``seen_ns`` is the stamp of an image of this very drive:
        what the robot saw just before is then left out, as it is for loops, since the image would find itself.

        Raises:
            ImageError: the image is not RGB ``uint8 [H, W, 3]``.
        """
        detector = self._detector
        with self._lock:
            self._catch_up()
        descriptor = detector.describe(image)
        features = detector.extract(Frame(seen_ns or 0, image, intrinsics=intrinsics, depth=depth))
        with self._lock:
            limit = self.size if seen_ns is None else detector.searchable_at(seen_ns)
            found = detector.find(descriptor, limit, top_places)
        return Relocalization(detector.examine(features, found), limit, stages(detector.config, alone=True))

    def save(self, path: Path | None = None) -> Saved:
        """Write a complete copy to ``path`` or ``map_path`` while images go on.

        A file that is there and is not an earlier state of this map is kept under another name.

        Raises:
            MapFileError: it could not be written; what was at the path before is unchanged.
        """
        target = path or self.map_path
        with self._saving:
            with map_errors(target, "cannot be saved"):
                refuse_target(self._store.path, real_path(target))
            kept = keep_unless_earlier(target, self._store)
            with dropped_on_failure(kept):
                return Saved(target, self._store.save_copy(target), kept)

    def load(self, session: str, path: Path | None = None) -> Saved:
        """Replace the map by that at ``path`` or ``map_path`` and begin ``session``; gives what was loaded.

        What the running map holds and that one does not is saved beside ``map_path`` first.

        Raises:
            MapFileError: the file cannot be trusted; the running map is unchanged.
            ModelMismatchError: another model made it; the running map is unchanged.
        """
        source = path or self.map_path
        with self._lock:
            kept = keep_unless_in(source, self._store, self.map_path)
            with dropped_on_failure(kept):
                count = self._store.replace_with(source, session)
            self._restore()
            return Saved(source, count, kept, self.unverifiable)

    def clear(self, session: str) -> Saved:
        """Forget all places and begin ``session``; what was there is saved beside ``map_path`` first.

        Raises:
            MapFileError: it could not be saved; nothing was forgotten.
        """
        with self._lock:
            aside = unused_name(self.map_path)
            count = self._store.save_copy(aside) if self._store.count else 0
            with dropped_on_failure(aside):
                self._store.clear(session)
            self._restore()
            return Saved(aside, count, None)

    def begin_session(self, session: str) -> str:
        """Begin another drive on the same map; gives its name, which is made unique by a number if need be."""
        with self._lock:
            self._catch_up()
            name = self._register(session)
            self._detector.begin_session(name)
            return name

    def reconfigure(self, config: Config) -> None:
        """Use other settings from the next frame on."""
        with self._lock:
            self._detector.reconfigure(config)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            self._store.close()

    def _restore(self) -> None:
        self._stale = True
        self._detector.restore(self._store.keyframes(), self._store.loops(), self._store.newest_session)
        self._stale = False

    def _catch_up(self) -> None:
        """Read the file again if that failed after the last loading or clearing, which had changed it already."""
        if self._stale:
            self._restore()

    def _register(self, session: str) -> str:
        name = unused_session(session, {item.name for item in self._store.sessions()})
        self._store.begin_session(name, time.time_ns())
        return name


def open_live_map(map_path: Path, resume: bool, describer: Describer, config: Config, session: str) -> LiveMap:
    """Begin ``session`` on the live map beside ``map_path``.

    With ``resume`` it goes on where the last run ended, however that ended; when there is nothing to go on with, it
    begins with the map at ``map_path`` if there is one. Without ``resume`` it begins empty, and the last run's live map
    is set aside.

    Raises:
        MapFileError: the live map or the map at ``map_path`` cannot be used.
        MapInUseError: another process has the live map.
        ModelMismatchError: the map was made by another model.
    """
    store, notes = open_live_file(map_path, resume, describer.model_id, describer.dim)
    try:
        return LiveMap(map_path, store, describer, config, session, notes)
    except BaseException:
        store.close()
        raise
