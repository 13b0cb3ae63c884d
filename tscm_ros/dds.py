"""Room for large images in Fast DDS, for processes that this one starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tscm_ros
from tscm_core.errors import TscmError

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
DOMAIN = str(1 + os.getpid() % 100)
"""Never the domain of the shell: the demo must not drive through somebody's robot."""


@contextmanager
def dds_for_one_machine() -> Iterator[None]:
    """Room for images in shared memory, and nobody else's topics."""
    above = Path(tscm_ros.__file__).parents  # of a clone, or of <prefix>/lib/python3.x/site-packages
    folders = (above[1] / "config", *(prefix / "share" / "tscm_ros" / "config" for prefix in above))
    profiles = [folder / "fastdds_large_images.xml" for folder in folders]
    profile = next((path for path in profiles if path.is_file()), None)
    if profile is None:
        raise TscmError(f"the Fast DDS profile is missing: install tscm_ros whole, or see that {profiles[0]} is there")
    ours = dict.fromkeys(PROFILE_VARIABLES, str(profile))
    ours |= {
        "ROS_DOMAIN_ID": DOMAIN,
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
