"""Builds tscm_msgs for `pip install`, against the ROS 2 wheels of PyPI.

Where ROS is installed from apt, use colcon: it reads package.xml and CMakeLists.txt and never this file.
Here the same CMake project is built, and what Python needs of it is packed into a wheel: the generated
package, the shared libraries as data files under `lib/` (the wheels' bootstrapper has that folder on the
loader's path) and the ament index under `share/`. Headers and CMake files, for C++ users, come with colcon.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build import build

HERE = Path(__file__).resolve().parent
NAME = "tscm_msgs"
VERSION = ET.parse(HERE / "package.xml").findtext("version")


def ros_prefix() -> Path:
    """The folder with `lib/` and `share/` of the ROS wheels: virtual environment or pip's build overlay."""
    for entry in sys.path:
        parents = Path(entry).resolve().parents
        if len(parents) > 2 and (parents[2] / "share" / "rosidl_cmake").is_dir():
            return parents[2]
    raise SystemExit(
        "tscm_msgs: the ROS 2 wheels are not in this Python environment; leave out --no-build-isolation, "
        "install what msg/pyproject.toml requires, or build with colcon where ROS is installed"
    )


def run_cmake(install_prefix: Path) -> None:
    """Configures, builds and installs the CMake project.

    The build folder is new every time: a cache would remember a build environment that pip has removed.
    """
    prefix = ros_prefix()
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(prefix / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "AMENT_PREFIX_PATH": str(prefix),
        "CMAKE_PREFIX_PATH": str(prefix),
    }
    with tempfile.TemporaryDirectory(prefix="tscm_msgs-") as folder:
        configure = [
            "cmake",
            *("-S", str(HERE), "-B", folder, "-G", "Ninja"),
            "-DCMAKE_BUILD_TYPE=Release",
            "-DBUILD_TESTING=OFF",
            f"-DCMAKE_INSTALL_PREFIX={install_prefix}",
            f"-DPython3_EXECUTABLE={sys.executable}",
        ]
        for command in (configure, ["cmake", "--build", folder], ["cmake", "--install", folder]):
            subprocess.run(command, check=True, env=environment)


def data_files(prefix: Path) -> list[tuple[str, list[str]]]:
    """Shared libraries, interface definitions and ament index entries below `prefix`, by target folder."""
    libraries = prefix.glob("lib/*.so*")
    shared = (prefix / "share").rglob("*")
    by_folder: dict[str, list[str]] = {}
    for path in sorted([*libraries, *shared]):
        relative = path.relative_to(prefix)
        # CMake files and parent_prefix_path name folders of the build environment, which is gone by then.
        if path.is_file() and not {"cmake", "parent_prefix_path"} & set(relative.parts):
            by_folder.setdefault(str(relative.parent), []).append(os.path.relpath(path, HERE))
    return list(by_folder.items())


class BuildInterfaces(build):
    """`build` that takes package and data files from CMake instead of the source folder."""

    def run(self) -> None:
        """Builds with CMake, then hands the Python package and the data files on to setuptools."""
        prefix = Path(self.build_temp).resolve() / "prefix"
        shutil.rmtree(prefix, ignore_errors=True)
        run_cmake(prefix)
        (package,) = prefix.rglob(f"*-packages/{NAME}")
        ignore = shutil.ignore_patterns("*.c", "__pycache__")
        shutil.copytree(package, Path(self.build_lib, NAME), ignore=ignore, dirs_exist_ok=True)
        self.distribution.data_files = data_files(prefix)


class BinaryDistribution(Distribution):
    """A distribution whose wheel is tied to this platform and Python version."""

    def has_ext_modules(self) -> bool:
        """Always: the type supports are shared libraries."""
        return True


setup(
    name=NAME,
    version=VERSION,
    description="Messages and services of tscm_ros",
    license="Apache-2.0",
    packages=[],
    python_requires=">=3.10",
    install_requires=[
        "numpy",
        "ros-jazzy-rclpy",
        "ros-jazzy-common-interfaces",
        "ros-jazzy-rmw-fastrtps-cpp",
        "ros-jazzy-rosidl-default-runtime",
    ],
    distclass=BinaryDistribution,
    cmdclass={"build": BuildInterfaces},
    zip_safe=False,
)
