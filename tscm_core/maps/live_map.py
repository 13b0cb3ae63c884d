"""The loop detector and the file under it, as one thing that several threads may use."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tscm_core.config import Config
from tscm_core.errors import MapFileError
from tscm_core.maps.live_answers import Begun, Fullness, Relocalization, Saved, unverifiable
from tscm_core.maps.live_file import (
    Keeping,
    dropped_on_failure,
    keep_unless_earlier,
    open_live_file,
    unused_name,
)
from tscm_core.maps.map_copy import refuse_target
from tscm_core.maps.map_files import map_errors, real_path
from tscm_core.maps.map_format import unused_session
from tscm_core.maps.map_store import MapStore
from tscm_core.recognition.descriptor import Describer
from tscm_core.recognition.evidence import stages
from tscm_core.recognition.foreign_places import Added
from tscm_core.recognition.local_features import LocalFeatures
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.place_memory import Place
from tscm_core.recognition.records import Depth, Frame, Intrinsics, Keyframe, Loop, Observation, Rgb
from tscm_core.recognition.stopwatch import Stopwatch


class LiveMap:
    """Recognises places and commits every keyframe to the live map file before it is used.

    ``map_path`` is what :meth:`save` and :meth:`load` take when they are given no path; the live file lies beside it.
    A session is written to the file with its first keyframe. Any thread may call any method. While a map is loaded or
    cleared, images are still recognised by the map as it was, and are not remembered.
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
        self.fullness = Fullness()
        """What the bounds of the map did to it."""
        self._store = store
        self._lock = threading.RLock()
        self._saving = threading.Lock()
        self._closed_to_keyframes = ""
        self._detector = LoopDetector(describer, config, load_features=store.features)
        self._detector.restore(store.keyframes(), store.loops(), self._name(session, store.session_names))
        if self.unverifiable:
            self.notes += (self.unverifiable,)

    def __enter__(self) -> LiveMap:
        """The map itself."""
        return self

    def __exit__(self, *error: object) -> None:
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
        """
        with self._lock:
            seen = self._detector.judge(frame)
            if seen.keyframe is not None and self._closed_to_keyframes:
                seen = seen.without_keyframe(self._closed_to_keyframes, self.size)
            watch = Stopwatch()
            if seen.keyframe is not None:
                try:
                    with watch.stage("store"):
                        self._commit(seen.keyframe, seen)
                    self.fault = ""
                except MapFileError as error:
                    self.fault = str(error)
                    seen = seen.without_keyframe(self.fault, self.size)
            self._detector.remember(seen)  # a stored one or not, or a robot that stands would support itself
            if not self._closed_to_keyframes:
                self.fullness = self.fullness.after(seen)
            return replace(seen, stage_times=seen.stage_times + watch.times)

    def add_foreign(self, robot: str, keyframe: Keyframe) -> Added:
        """Look for the place of another robot's keyframe from now on; it is kept in memory, and not in the file.

        Raises:
            KeyframeError: it has no id, or no descriptor ``float32 [dim]`` of length 1.
        """
        with self._lock:
            return self._detector.foreign.add(robot, keyframe)

    def foreign_counts(self) -> dict[str, int]:
        """How many keyframes are known of each other robot."""
        return self._detector.foreign.counts()

    @property
    def unverifiable(self) -> str:
        """One sentence if the map has keyframes that geometry cannot verify, though it should; else empty."""
        return unverifiable(self._store.without_features(), self.size) if self._detector.config.geometry.enabled else ""

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
        descriptor = detector.describe(image)
        features = detector.extract(Frame(seen_ns or 0, image, intrinsics=intrinsics, depth=depth))
        while True:
            with self._lock:
                memory = detector.memory
                limit = len(memory.places) if seen_ns is None else detector.searchable_at(seen_ns)
                found, searched = detector.find(descriptor, limit, top_places), memory.count(0, limit)
            judged = detector.examine(features, found)
            if memory is detector.memory:  # else features were read of another map's keyframes
                return Relocalization(judged, searched, stages(detector.config, alone=True))

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

    def load(
        self, session: str, path: Path | None = None, tell: Callable[[Saved], None] = lambda loaded: None
    ) -> Saved:
        """Replace the map by that at ``path`` or ``map_path`` and begin ``session``; gives what was loaded.

        What that one lacks is saved beside ``map_path``. ``tell`` hears of it as soon as it is done but for tidying up.

        Raises:
            MapFileError: the file cannot be trusted; the running map is unchanged.
            ModelMismatchError: another model made it; the running map is unchanged.
        """
        source = path or self.map_path
        with self._keeping_keyframes_out("a map is being loaded"):
            with Keeping(source, self._store, self.map_path) as kept, self._store.replacing(source) as new:
                remembered, aside = self._detector.prepared(new.keyframes(), new.loops()), kept.path()
                with self._lock:
                    count = new.commit()
                    kept.needed = True
                    self._detector.adopt(remembered, self._name(session, new.session_names))
                tell(loaded := Saved(source, count, aside, self.unverifiable))
            return loaded

    def clear(self, session: str) -> Saved:
        """Forget all places and begin ``session``; what was there is saved beside ``map_path`` first.

        Raises:
            MapFileError: it could not be saved; nothing was forgotten.
        """
        with self._keeping_keyframes_out("the map is being cleared"):
            aside = unused_name(self.map_path)
            count = self._store.save_copy(aside) if self._store.count else 0
            with dropped_on_failure(aside), self._store.clearing() as empty, self._lock:
                empty.commit()
                self._detector.restore((), (), self._name(session, frozenset()))
            return Saved(aside, count, None)

    def begin_session(self, session: str) -> str:
        """Begin another drive on the same map; gives its name, which is made unique by a number if need be."""
        with self._lock:
            name = self._name(session, self._begun.taken)
            self._detector.begin_session(name)
            return name

    def reconfigure(self, config: Config) -> None:
        """Use other settings from the next frame on."""
        with self._lock:
            self._detector.reconfigure(config)
            self._forget_problems()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            self._store.close()

    def _name(self, session: str, others: frozenset[str]) -> str:
        """A name for a session that begins now, and that none of ``others`` has."""
        name = unused_session(session, others)
        self._begun = Begun(name, time.time_ns(), others | {name})
        self._forget_problems()
        return name

    def _forget_problems(self) -> None:
        """They were those of the last keyframe; the next one may be long in coming."""
        self.fault, self.fullness = "", replace(self.fullness, problem="")

    def _commit(self, keyframe: Keyframe, seen: Observation) -> None:
        if not self._begun.stored:
            self._store.begin_session(self._begun.name, self._begun.started_ns)
            self._begun = replace(self._begun, stored=True)
        self._store.add(keyframe, seen.loops, seen.thinned)

    @contextlib.contextmanager
    def _keeping_keyframes_out(self, why: str) -> Iterator[None]:
        """While the map is replaced: keyframes would be lost with it, or wait a while for its log to be cut."""
        with self._saving:
            with self._lock:
                self._closed_to_keyframes = why
            try:
                yield
            finally:
                self._closed_to_keyframes = ""


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
