"""What can go wrong, each with its own sentence. Everything that a user can cause derives from ``TscmError``."""

from __future__ import annotations

import shlex
from pathlib import Path


class TscmError(Exception):
    """Root of all errors that are shown to a user: the message is one sentence that says what to do."""


class ConfigError(TscmError):
    """A setting is unknown, of the wrong type or out of range."""


class ImageError(TscmError):
    """An image cannot be used."""


class StampError(TscmError):
    """A frame is not newer than the one before."""

    def __init__(self, stamp_ns: int, previous_ns: int) -> None:
        behind = (previous_ns - stamp_ns) / 1e9
        super().__init__(
            f"image stamp {stamp_ns / 1e9:.3f} s is {behind:.3f} s behind the image before it "
            f"({previous_ns / 1e9:.3f} s): the frame is left out; begin a new session if the clock or bag began again"
            if behind > 0
            else f"image stamp {stamp_ns / 1e9:.3f} s is the same as that of the image before it: the frame is left out"
        )


class FeatureError(TscmError):
    """Stored local features are damaged, or of a newer version."""


class KeyframeError(TscmError):
    """A keyframe that another robot sent cannot be used."""


class ModelMismatchError(TscmError):
    """Descriptors of two different models would be compared."""

    def __init__(self, where: str, theirs: str, ours: str) -> None:
        super().__init__(
            f"{where} holds descriptors of model {theirs}, but the running model is {ours}: their similarities mean "
            f"nothing; run with the model that made them, or map again"
        )


class ModelFileError(TscmError):
    """A weights file is missing or is not what it should be."""


class DeployError(TscmError):
    """A network cannot be compiled, or what was compiled cannot be run."""


class StoppedError(TscmError):
    """Somebody called off what takes long."""


class MissingDependencyError(TscmError):
    """An optional package is needed for what was asked."""

    def __init__(self, package: str, remedy: str) -> None:
        super().__init__(f"package {package} is not installed: {remedy}")


class MapFileError(TscmError):
    """A map file cannot be read, written or trusted."""

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(f"map {path}: {problem}")
        self.path = Path(path)


def repair_command(path: Path | str) -> str:
    """The command that brings back a part of a damaged map, and what it does, as part of a sentence."""
    return f"`tscm map check {shlex.quote(str(path))} --repair` writes what is whole in it to another map"


class DamagedMapError(MapFileError):
    """A map file is damaged. ``damage`` says how; with ``repairable``, a repair brings back a part of it.

    Without that, ``hopeless`` is said instead where the file may as well never have been a map.
    """

    def __init__(self, path: Path | str, damage: str, hopeless: str = "", *, repairable: bool = False) -> None:
        wanted = f"{damage}; {repair_command(path)}" if repairable else hopeless or f"{damage}; use another copy"
        super().__init__(path, wanted)
        self.damage, self.repairable = damage, repairable


class MapInUseError(MapFileError):
    """Another process has the map open for writing."""


class BagError(TscmError):
    """A bag cannot be read or written, or lacks what is needed."""

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(f"bag {path}: {problem}")


class DatasetError(TscmError):
    """A folder of images or a ground-truth file is not what it should be."""


def absence(path: Path) -> str:
    """Why there is no file to read, as the end of a sentence."""
    return "is a folder, not a file" if path.is_dir() else "does not exist"
