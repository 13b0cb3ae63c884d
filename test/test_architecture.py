"""The house rules that a machine can hold: who may import whom, how long a room may be, what stands in two places."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import tscm_core
from tscm_core.config import Config, load_config
from tscm_core.recognition.records import Status

ROOT = Path(__file__).resolve().parent.parent
CORE = sorted((ROOT / "tscm_core").rglob("*.py"))
SOURCES = [*CORE, *sorted((ROOT / "tscm_ros").rglob("*.py"))]
MOST_LINES, MOST_FUNCTION_LINES = 300, 60

MAY_IMPORT = {
    "errors": set(),
    "config_sections": set(),
    "config": {"errors", "config_sections"},
    "memory": set(),
    "models": {"errors", "models"},
    "network_header": {"errors"},
    "checkpoints": {"errors", "models", "network_header"},
    "recognition": {"errors", "config", "recognition"},
    "maps": {"errors", "config", "recognition", "maps", "__version__"},
    "datasets": {"errors", "recognition", "datasets"},
    "training": {
        "errors",
        "config",
        "recognition",
        "models",
        "checkpoints",
        "network_header",
        "datasets",
        "evaluation",
        "memory",
        "training",
    },
    "evaluation": {"errors", "recognition", "datasets", "checkpoints", "models", "maps", "config", "evaluation"},
    "deploy": {
        "__version__",
        "errors",
        "config",
        "memory",
        "recognition",
        "models",
        "checkpoints",
        "network_header",
        "deploy",
    },
}
"""Parts of the core and which other parts each may know. A part that is not named here may know all but ``cli``."""

ROS_ONLY = re.compile(r"rclpy|tscm_ros|\w+_msgs|std_srvs|launch|launch_ros|ament_\w+|cv_bridge|rcl_interfaces")


def name_of(path):
    return str(path.relative_to(ROOT))


def imported(path):
    """Every module that a file imports, at whatever depth, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__") and node.args:
            yield from (str(part.value) for part in node.args[:1] if isinstance(part, ast.Constant))


def called(call):
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def part(module):
    """``tscm_core.maps.live_map.LiveMap`` is of part ``maps``."""
    return module.split(".")[1] if module.startswith("tscm_core.") else None


def test_the_core_is_found():
    assert {path.parent.name for path in CORE} >= {"tscm_core", "recognition", "maps", "models", "datasets", "deploy"}
    assert "tscm_core.errors.ConfigError" in set(imported(ROOT / "tscm_core" / "config.py"))


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_imports_point_downwards(path):
    modules = [module for module in imported(path) if module]
    assert [module for module in modules if ROS_ONLY.fullmatch(module.split(".")[0])] == []
    own = path.relative_to(ROOT / "tscm_core").parts[0].removesuffix(".py")
    known = {part(module) for module in modules} - {None}
    assert "cli" not in known
    allowed = MAY_IMPORT.get(own)
    assert allowed is None or known <= allowed, f"{own} imports {sorted(known - allowed)}"


@pytest.mark.parametrize("own", MAY_IMPORT)
def test_every_part_with_a_rule_exists(own):
    assert (ROOT / "tscm_core" / own).is_dir() or (ROOT / "tscm_core" / f"{own}.py").is_file()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_and_functions_are_short(path):
    text = path.read_text(encoding="utf-8")
    lengths = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in lengths.items() if lines > MOST_FUNCTION_LINES} == {}
    assert len(text.splitlines()) <= MOST_LINES


@pytest.mark.parametrize("manifest", ["package.xml", "msg/package.xml"])
def test_versions_agree(manifest):
    assert ET.parse(ROOT / manifest).findtext("version") == tscm_core.__version__


def test_status_numbers_are_those_of_the_message():
    message = (ROOT / "msg" / "msg" / "FrameStatus.msg").read_text(encoding="utf-8")
    constants = {name: int(number) for name, number in re.findall(r"^uint8 ([A-Z_]+)\s*=\s*(\d+)", message, re.M)}
    assert constants == {status.name: status.value for status in Status}


def test_the_shipped_settings_are_the_defaults():
    assert load_config(ROOT / "config" / "place_recognition.yaml") == Config()
