"""The two networks whose time is compared, and which backends can run them here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tscm_core.config import ModelConfig
from tscm_core.deploy.backend import BACKENDS
from tscm_core.deploy.building import engine_key
from tscm_core.deploy.engine_cache import EngineCache, cache_folder
from tscm_core.deploy.load import choices, find_backend
from tscm_core.deploy.weights import find_weights

EAGER = "eager"
DEFAULT, PAPER = "default", "resnet50"
_SLOW_TO_BUILD = ("inductor", "tensorrt")
_PAPER_SPEC = {"name": "student", "trunk": "resnet50"}


@dataclass(frozen=True, slots=True)
class Student:
    """A network to measure: its name here, for people, and the settings with which it is loaded."""

    name: str
    title: str
    config: ModelConfig


def students(config: ModelConfig, folder: Path) -> tuple[Student, Student]:
    """The student that ``config`` names, and the paper's with generated weights, written to ``folder``."""
    title = f"{Path(config.weights).name or 'default'} student"
    paper = replace(config, weights=str(_generated(folder)), engine_cache=str(_apart(config)))
    return (
        Student(DEFAULT, title, config),
        Student(PAPER, "the paper's ResNet-50 student (generated weights: time only)", paper),
    )


def _generated(folder: Path) -> Path:
    """Always the same weights, so that what is compiled of them can be kept."""
    import torch

    from tscm_core.checkpoints import save_network
    from tscm_core.models.build import build_network

    torch.manual_seed(0)
    path = folder / "resnet50.safetensors"
    save_network(build_network(_PAPER_SPEC).eval(), path, config={}, metrics={})
    return path


def _apart(config: ModelConfig) -> Path:
    """Engines of generated weights are of no use to anybody else: they can be removed by themselves."""
    return cache_folder(config.engine_cache) / "bench"


def obstacle(config: ModelConfig, *, everything: bool) -> str:
    """Why ``config.backend`` is left out, as it ends a sentence; empty if it is worth a try."""
    if config.backend == EAGER:
        return ""
    backend, weights = find_backend(config.backend), find_weights(config.weights)
    reasons = []
    for _, target in choices(config, weights):
        if refusal := backend.refusal(target, build=False):
            reasons.append(refusal)
            continue
        path = EngineCache(cache_folder(config.engine_cache)).path(engine_key(backend, target, weights))
        if everything or config.backend not in _SLOW_TO_BUILD or path.is_file():
            return ""
        reasons.append("not compiled yet, which takes long (tscm compile, or --all)")
    return reasons[0] if reasons else "it does not run here"


def backends() -> tuple[str, ...]:
    """All of them, the one that others are compared with first."""
    return (EAGER, *(name for name in BACKENDS if name != EAGER))
