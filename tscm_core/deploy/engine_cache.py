"""The folder of compiled networks: each is built once, by one process, and loaded by all others."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tscm_core.deploy.engine_file import (
    SUFFIX,
    EngineInfo,
    EngineKey,
    Entry,
    StaleEngine,
    inspect,
    read_engine,
    read_info,
    untrusted,
    write_engine,
)
from tscm_core.deploy.engine_locks import locked, sweep
from tscm_core.errors import DeployError

if TYPE_CHECKING:  # at run time it would bring PyTorch, without which a cached engine can be loaded
    from tscm_core.deploy.backend import Report, Stop

_ELSEWHERE = "or set model.engine_cache to another folder"


def cache_folder(setting: str) -> Path:
    """The folder that ``model.engine_cache`` names; empty: ``tscm/engines`` in the user's cache folder.

    Raises:
        DeployError: there is no home folder to have it in.
    """
    try:
        if setting:
            return Path(setting).expanduser().absolute()
        given = Path(os.environ.get("XDG_CACHE_HOME", ""))
        home = given if given.is_absolute() else Path("~/.cache").expanduser()
    except RuntimeError as error:
        raise DeployError("this user has no home folder for compiled networks: set model.engine_cache") from error
    return home / "tscm" / "engines"


class NotKeptError(DeployError):
    """An engine was built, but the cache cannot keep it. Whoever can go on without a cache has it here."""

    def __init__(self, reason: DeployError, info: EngineInfo, payload: bytes) -> None:
        super().__init__(str(reason))
        self.info = info
        self.payload = payload


class EngineCache:
    """Engines in one folder, which only its user may write to: an engine is code.

    Any number of processes may use it at once.

    Args:
        folder: made, for its user alone, when the first engine is built.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: EngineKey) -> Path:
        """Where the engine for ``key`` is kept."""
        return self.folder / key.file_name()

    def get(self, key: EngineKey) -> tuple[EngineInfo, bytes] | str:
        """The engine and its payload; or why there is none to load, as a clause for the log.

        Writes nothing, and so works in a read-only folder too.

        Raises:
            DeployError: others may write to the folder, or it is no folder.
        """
        self.check()
        path = self.path(key)
        try:
            return read_engine(path, key)
        except StaleEngine as stale:
            reason = str(stale)
        return reason if os.path.lexists(path) else self._nearest(key) or reason

    def _nearest(self, key: EngineKey) -> str:
        """What became different since this network was last compiled like this; empty if it never was."""
        alike = [info for info in self._infos() if _what(info.key) == _what(key)]
        newest = max(alike, key=lambda info: info.built_at, default=None)
        return f"the one in the cache does not fit: {newest.key.difference(key)}" if newest else ""

    def _infos(self) -> Iterator[EngineInfo]:
        with contextlib.suppress(OSError):  # no folder, or a closed one
            for path in self._files():
                with contextlib.suppress(StaleEngine):
                    yield read_info(path)

    @contextlib.contextmanager
    def lock(self, key: EngineKey, report: Report, stop: Stop = lambda: False) -> Iterator[None]:
        """The right to build the engine for ``key``. The kernel takes it back however the process that has it ends.

        Also makes the folder, and removes what killed processes left half-written there.

        Raises:
            StoppedError: ``stop`` said so.
            DeployError: the folder cannot be written, or others may write to it.
        """
        path = self.path(key)

        def waiting(holder: str, seconds: float) -> None:
            report(f"process {holder} is compiling {path.stem}: waiting for it, {seconds:.0f} s so far")

        with contextlib.ExitStack() as held:
            self.prepare()
            with self._errors():
                held.enter_context(locked(path.with_suffix(".lock"), waiting, stop))
                sweep(self.folder)
            yield

    def put(self, info: EngineInfo, payload: bytes) -> Path:
        """Keep an engine in the place of what was there for its key, and give its path.

        Raises:
            DeployError: the disk is full, the folder cannot be written, or others may write to it.
        """
        self.prepare()
        path = self.path(info.key)
        write_engine(path, info, payload)
        return path

    def entries(self) -> tuple[Entry, ...]:
        """All engines in the folder, each read whole, by name.

        Raises:
            DeployError: the folder cannot be read, others may write to it, or it is no folder.
        """
        self.check()
        files: list[Path] = []
        with self._errors(), contextlib.suppress(FileNotFoundError):
            files = self._files()
        return tuple(inspect(path) for path in files)

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.suffix == SUFFIX)

    def prepare(self) -> None:
        """Make the folder, for this user alone, unless it is there.

        Raises:
            DeployError: it cannot be made or written, or others may write to it.
        """
        self.check()
        with self._errors():
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            self.check()
            tempfile.TemporaryFile(dir=self.folder).close()  # only the attempt shows whether it can be written

    def check(self) -> None:
        """See that nobody else may write to the folder; out of one that is not there, or closed to us, nothing is run.

        Files are checked for their owner one by one, so that what is above this folder need not be.

        Raises:
            DeployError: others may write to it, or it is no folder.
        """
        try:
            status = self.folder.stat()
        except OSError:
            return
        if not stat.S_ISDIR(status.st_mode):
            raise DeployError(f"engine cache {self.folder} is not a folder: remove it, {_ELSEWHERE}")
        problem = untrusted(status)
        if problem:
            remedy = f"chmod go-w {self.folder}" if status.st_uid == os.geteuid() else "take it over with chown"
            raise DeployError(
                f"engine cache {self.folder} {problem}, and what is loaded from there is run: {remedy}, {_ELSEWHERE}"
            )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            ours = not error.filename or Path(error.filename).parent == self.folder  # a name that nobody has heard of
            why = error.strerror or str(error) if ours else f"{error.strerror} ({error.filename})"
            raise DeployError(
                f"engine cache {self.folder} cannot be used: {why}; make room or give permission, {_ELSEWHERE}"
            ) from error


def get_or_build(
    cache: EngineCache,
    key: EngineKey,
    build: Callable[[], tuple[EngineInfo, bytes]],
    report: Report,
    *,
    force: bool = False,
    stop: Stop = lambda: False,
) -> tuple[EngineInfo, bytes, bool]:
    """The engine for ``key`` from the cache, else built and kept there; whether it was there is the third value.

    Two processes that want the same engine at once build it once.

    Args:
        cache: where it is looked for and kept.
        key: what it is for.
        build: compiles it, for ``key``.
        report: told why it is built, and when another process is waited for.
        force: build it even though it is there.
        stop: asked while another process is waited for, whether to give up.

    Raises:
        StoppedError: ``stop`` said so.
        NotKeptError: it was built but cannot be kept; the error has it.
        Exception: what ``build`` raises.
    """
    found = cache.get(key)
    if not force and not isinstance(found, str):
        return *found, True
    with contextlib.ExitStack() as held:
        problem = None
        try:
            held.enter_context(cache.lock(key, report, stop))
            found = cache.get(key)  # another process may have built it while we waited
        except DeployError as error:
            problem = error
        if not force and not isinstance(found, str):
            return *found, True
        reason = found if isinstance(found, str) else "as asked for, though it is there"
        report(f"{key.backend} has to be compiled in {key.precision}: {reason}")
        info, payload = build()
        try:
            if problem is None:
                cache.put(info, payload)
        except DeployError as error:
            problem = error
        if problem is not None:
            raise NotKeptError(problem, info, payload) from problem
    return info, payload, False


def _what(key: EngineKey) -> tuple[object, ...]:
    """What a person would take for the same engine."""
    return key.model_id, key.backend, key.precision, key.input_size
