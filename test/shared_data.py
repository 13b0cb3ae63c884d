"""The data sets beside the checkout, and the network: loaded once, and skipped or demanded by one rule."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared(name):
    """The folder of a data set. Without it the test is skipped; with ``CI`` set its absence is a failure."""
    folder = SHARED / name
    if not folder.is_dir():
        absent = f"there is no {folder}"
        if os.environ.get("CI"):
            pytest.fail(absent)
        pytest.skip(absent)
    return folder


@functools.cache
def network(weights=""):
    """The default describer, or another, in eager PyTorch on one thread: what every backend is held against."""
    from tscm_core.config import ModelConfig
    from tscm_core.deploy.load import load_describer

    return load_describer(ModelConfig(weights=weights, backend="eager"))


@functools.cache
def compile_default():
    """Put the default network into the cache of compiled ones, so that no node of a test has to do it."""
    from tscm_core.config import ModelConfig
    from tscm_core.deploy.load import build_engine

    return build_engine(ModelConfig())
