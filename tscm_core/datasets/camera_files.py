"""The calibration file of a camera as ROS keeps it: YAML with the fields of ``sensor_msgs/CameraInfo``.

The format is that of ``camera_calibration_parsers``, so that a file of the ROS calibrator can be put beside a drive.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import yaml

from tscm_core.errors import DatasetError
from tscm_core.recognition.records import Intrinsics

COEFFICIENTS = {"plumb_bob": (4, 5), "rational_polynomial": (8,), "equidistant": (4,)}
"""Distortion models that are understood, and how many coefficients each may have; the last is what ours has."""


def lens(model: str, coefficients: list[float]) -> tuple[str, tuple[float, ...]] | None:
    """Distortion as ``Intrinsics`` has it; a lens whose coefficients are all 0 is a pinhole, whatever its model.

    Returns:
        The model and its coefficients, both empty for a pinhole; ``None`` if the model is not understood, or the
        number of coefficients is not the model's, or one is not finite.
    """
    if not any(coefficients):
        return "", ()
    lengths = COEFFICIENTS.get(model, ())
    if len(coefficients) not in lengths or not all(map(math.isfinite, coefficients)):
        return None
    padding = [0.0] * (lengths[-1] - len(coefficients))
    return model, (*coefficients, *padding)


def read_camera_file(path: Path) -> Intrinsics:
    """The intrinsics in a calibration file.

    Raises:
        DatasetError: it cannot be read, is not YAML, lacks a field, or describes a lens that is not understood.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"camera file {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DatasetError(f"camera file {path} is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(tree, dict):
        raise DatasetError(f"camera file {path} holds no calibration: it must be one of the ROS camera calibrator")
    width, height = (_numbers(path, tree, name, 1)[0] for name in ("image_width", "image_height"))
    k = _numbers(path, tree.get("camera_matrix"), "data", 9, "camera_matrix.")
    if not (min(width, height) >= 1 and k[0] > 0.0 and k[4] > 0.0):
        raise DatasetError(f"camera file {path}: image size and focal lengths must be positive")
    coefficients, model = tree.get("distortion_coefficients"), str(tree.get("distortion_model", ""))
    d = _numbers(path, coefficients, "data", None, "distortion_coefficients.") if coefficients else []
    bent = lens(model, d)
    if bent is None:
        known = ", ".join(f"{name} ({counts[-1]})" for name, counts in COEFFICIENTS.items())
        raise DatasetError(
            f'camera file {path}: distortion model "{model}" with {len(d)} coefficients is unknown: known are {known}'
        )
    return Intrinsics(int(width), int(height), k[0], k[4], k[2], k[5], bent[1], bent[0])


def write_camera_file(path: Path, camera: Intrinsics, name: str = "camera") -> None:
    """Write a calibration file; it is whole or not there.

    Raises:
        DatasetError: it cannot be written.
    """
    model, d = camera.distortion_model or "plumb_bob", list(camera.distortion or (0.0,) * 5)
    k = [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
    projection = [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]
    tree = {
        "image_width": camera.width,
        "image_height": camera.height,
        "camera_name": name,
        "camera_matrix": {"rows": 3, "cols": 3, "data": k},
        "distortion_model": model,
        "distortion_coefficients": {"rows": 1, "cols": len(d), "data": d},
        "rectification_matrix": {"rows": 3, "cols": 3, "data": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]},
        "projection_matrix": {"rows": 3, "cols": 4, "data": projection},
    }
    aside = path.with_name(f".{path.name}.new")
    try:
        aside.write_text(yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, width=200), encoding="utf-8")
        os.replace(aside, path)  # noqa: PTH105 - as one step
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise DatasetError(f"camera file {path} cannot be written: {error.strerror}") from error


def _numbers(path: Path, tree: Any, field: str, count: int | None, head: str = "") -> list[float]:
    """The finite numbers of a field: a list of ``count`` of them (any number for ``None``), or just one."""
    value = tree.get(field) if isinstance(tree, dict) else None
    values: list[Any] = value if isinstance(value, list) else [value]
    if not all(map(_is_number, values)) or (count is not None and len(values) != count):
        asked = "finite numbers" if count is None else "a finite number" if count == 1 else f"{count} finite numbers"
        raise DatasetError(f"camera file {path}: {head}{field} must be {asked}")
    return [float(item) for item in values]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
