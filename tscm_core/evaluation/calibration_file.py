"""Calibrated thresholds as a ROS parameter file that says where they come from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from tscm_core.config import Config, Value
from tscm_core.errors import TscmError
from tscm_core.evaluation.calibration import Calibration
from tscm_core.evaluation.calibration_grid import changes

_DECIDING = ("model", "keyframes", "recency", "candidates", "geometry", "temporal")
"""Sections that thresholds depend on: what differs from the defaults there belongs into the file."""
_FIRST_CLOCK_NS = 10**18
"""September 2001: an earlier stamp is no time of day, it counts from the beginning of a drive."""


def check_target(path: Path, overwrite: bool) -> None:
    """Find out before the work whether the file can be written after it.

    Raises:
        TscmError: it is there already, or its folder is not, or may not be written.
    """
    folder = path.absolute().parent
    if path.is_dir():
        raise TscmError(f"settings file {path} cannot be written: it is a folder")
    if path.exists() and not overwrite:
        raise TscmError(f"settings file {path} is there already: give another name, or --overwrite")
    if not folder.is_dir():
        raise TscmError(f"settings file {path} cannot be written: there is no folder {path.parent}")
    if not os.access(folder, os.W_OK):
        raise TscmError(f"settings file {path} cannot be written: folder {path.parent} is read-only for you")


def write_params(path: Path, text: str) -> None:
    """Write the file whole or not at all.

    Raises:
        TscmError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise TscmError(f"settings file {path} cannot be written: {error.strerror}") from error


def params_text(
    calibration: Calibration, config: Config, drives: Sequence[str], newest_ns: int, model_id: str, labels: str
) -> str:
    """The file: a comment with the claim, the thresholds, and what else differs from the defaults.

    Args:
        calibration: the choice and what it is worth.
        config: the settings that it was made with.
        drives: their paths, those that share a map joined with a comma.
        newest_ns: stamp of the newest image, nanoseconds.
        model_id: of the network; the similarity means nothing with another one.
        labels: what said which places are right.
    """
    lines = [
        f"Thresholds found by tscm calibrate in {'; '.join(drives)}",
        f"newest image {when(newest_ns)}, network {model_id}, places told apart by {labels}",
        *claim(calibration),
    ]
    head = "".join(f"# {' '.join(line.split())}\n" for line in lines)
    tree = {"/**": {"ros__parameters": _tree(_settings(calibration, config))}}
    return head + yaml.safe_dump(tree, sort_keys=False)


def claim(calibration: Calibration) -> list[str]:
    """What the thresholds are worth, in a few lines."""
    best, confidence = calibration.best, calibration.goal.confidence
    accepted = best.right + best.wrong
    found = (
        f"{accepted} places accepted in {best.episodes} episodes, {best.wrong} of them wrong; recall {best.recall:.3f}"
    )
    if calibration.refusal:
        return [f"NOT PROVEN: {calibration.refusal}", found]
    return [
        f"Claim: precision of at least {calibration.goal.precision:g} in places like these, with "
        f"{100 * confidence:g} % confidence (lower bound {best.bound(confidence):.4f})",
        found,
    ]


def when(stamp_ns: int) -> str:
    """A stamp as a date, or as seconds where it counts from the beginning of a drive."""
    if stamp_ns < _FIRST_CLOCK_NS:
        return f"at {stamp_ns / 1e9:.1f} s of its drive"
    return datetime.fromtimestamp(stamp_ns // 10**9, tz=timezone.utc).strftime("of %Y-%m-%d %H:%M:%S UTC")


def _settings(calibration: Calibration, config: Config) -> dict[str, Value]:
    chosen = config.replace(changes(calibration.best.setting, calibration.best.min_similarity))
    calibrated = changes(calibration.best.setting, calibration.best.min_similarity)
    defaults = {name: value for name, value, _ in Config().settings()}
    return {
        name: value
        for name, value, _ in chosen.settings()
        if name in calibrated or (name.split(".")[0] in _DECIDING and value != defaults[name])
    }


def _tree(settings: dict[str, Value]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in settings.items():
        section, _, key = name.rpartition(".")
        tree.setdefault(section, {})[key] = value
    return tree
