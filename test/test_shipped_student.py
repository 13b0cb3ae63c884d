"""The student that comes with the package: small, whole, and said to be how good and by what training."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from shared_data import network, shared

from tscm_core.checkpoints import load_network, load_student, model_id
from tscm_core.datasets.positions import list_images
from tscm_core.evaluation.describe import read_rgb
from tscm_core.evaluation.recall import recall_at
from tscm_core.network_header import SHIPPED, read_header

ROOT = Path(__file__).resolve().parent.parent
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def student():
    return load_student()


def test_it_is_small_enough_for_a_checkout():
    assert SHIPPED == ROOT / "tscm_core" / "weights" / "student.safetensors"
    assert MEGABYTE < SHIPPED.stat().st_size <= 12 * MEGABYTE


def test_it_says_what_it_is_how_it_was_trained_and_how_good_it_is(student):
    header = read_header(SHIPPED)
    assert (header.spec["name"], header.spec["trunk"]) == ("student", "efficientnet_lite0")
    assert header.config
    assert header.metrics
    assert header.model_id == model_id(student, "{}x{}".format(*student.input_size))
    home = re.findall(r"'/[^']*", f"{header.config} {header.metrics}")
    assert home == []  # no folder of whoever trained it


def test_it_loads_and_describes(student):
    assert (student.dim, student.training) == (2048, False)
    assert all(torch.isfinite(tensor).all() for tensor in student.state_dict().values())
    width, height = student.input_size
    descriptors = student(torch.randn(2, 3, height, width))
    assert descriptors.shape == (2, 2048)
    assert descriptors.norm(dim=1).tolist() == pytest.approx([1.0] * 2, abs=1e-5)
    assert descriptors[0] @ descriptors[1] < 0.9999


def test_it_is_trained_and_not_as_it_was_drawn(student):
    """Random linear layers have numbers evenly spread between two bounds, biases too."""
    for layer in student.projections():
        bound = layer.in_features**-0.5
        assert layer.weight.abs().max() > 1.05 * bound


def test_an_installed_package_has_it(tmp_path):
    """Built without a network: setup.py copies the package, and the file with it."""
    command = [sys.executable, "setup.py", "--quiet", "build", "--build-base", str(tmp_path), "--build-lib"]
    done = subprocess.run(
        [*command, str(tmp_path / "lib")], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    built = tmp_path / "lib" / "tscm_core" / "weights" / "student.safetensors"
    assert built.read_bytes() == SHIPPED.read_bytes()
    assert load_network(built).dim == 2048


def test_setup_names_it():
    text = (ROOT / "setup.py").read_text()
    assert '"tscm_core": ["py.typed", "weights/*"]' in text
    assert sorted(path.name for path in SHIPPED.parent.iterdir()) == ["README.md", "student.safetensors"]


@pytest.mark.shared_data
def test_it_finds_more_of_the_corridor_than_the_untrained_trunk_also_in_the_dark():
    """Second lap against first, two places apart at most; then the same with three quarters of the light gone."""
    images = [read_rgb(path) for path in list_images(shared("corridor_two_laps"))[:80]]
    dark = [(255 * 0.25 * (image / 255) ** 2).astype(np.uint8) for image in images[40:]]
    right = [np.arange(max(0, place - 2), min(40, place + 3)) for place in range(40)]
    found = {}
    for name, weights in (("shipped", ""), ("imagenet", "imagenet")):
        first, second, night = (network(weights).describe(part) for part in (images[:40], images[40:], dark))
        found[name] = [recall_at(first, queries, right, (1,)).recall[1] for queries in (second, night)]
    assert found["shipped"][0] >= 0.975
    assert found["shipped"][1] >= 0.95
    assert found["imagenet"][0] < found["shipped"][0]
    assert found["imagenet"][1] < found["shipped"][1]
