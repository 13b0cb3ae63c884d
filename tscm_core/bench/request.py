"""What a section is asked for, and the words in which its process is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tscm_core.config import Config

Say = Callable[[str], None]
"""Takes a sentence about what is going on, for the person who waits."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: these figures make a run of all sections take less than four minutes on two cores."""

    everything: bool = False
    """Compile what is not in the cache, search a million places; takes as long as it takes."""
    describe_threads: tuple[int, ...] = (1, 2)
    describe_rounds: int = 8
    describe_images: int = 10
    """Of one round."""
    describe_seconds: float = 10.0
    """For all rounds of one student with one number of threads; three rounds are taken anyway."""
    match_sizes: tuple[int, ...] = (1_000, 10_000, 100_000)
    match_queries: int = 400
    map_places: int = 10_000
    map_added: int = 300
    """Keyframes whose adding is timed, on top of the others."""
    verify_seconds: float = 2.0
    """For each of its rows."""
    path_frames: int = 160
    dds_seconds: float = 10.0
    """For each rate."""
    saves: int = 10
    """While images flow; half as many loads, and twice as many relocalisations."""


def everything() -> Effort:
    """The effort of ``--all``."""
    return Effort(
        everything=True,
        describe_rounds=12,
        describe_seconds=60.0,
        match_sizes=(1_000, 10_000, 100_000, 1_000_000),
        path_frames=320,
    )


@dataclass(frozen=True, slots=True)
class Request:
    """Settings, effort, and images to use in place of made-up ones."""

    config: Config = field(default_factory=Config)
    effort: Effort = field(default_factory=Effort)
    images: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """For a process of its own."""
        return {
            "config": {name: value for name, value, _ in self.config.settings()},
            "effort": asdict(self.effort),
            "images": None if self.images is None else str(self.images),
        }

    @classmethod
    def from_json(cls, shown: Mapping[str, Any]) -> Request:
        """What :meth:`to_json` made."""
        effort: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in shown["effort"].items()
        }
        images = None if shown["images"] is None else Path(shown["images"])
        return cls(Config().replace(shown["config"]), Effort(**effort), images)
