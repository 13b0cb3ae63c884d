"""Room for large images in Fast DDS and a domain of their own, for processes that this one starts."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import tscm_ros
from tscm_core.errors import TscmError

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
_DOMAINS = 100
"""Of domains 1 to 100 no port is one that Linux gives to others."""
_RESERVED = socket.socket(socket.AF_UNIX)


@cache
def own_domain() -> int:
    """The DDS domain of what this process starts, until its end; no other process that asks here has it meanwhile.

    Never the domain of the shell, on purpose: the demo must not drive through somebody's robot.
    """
    first = os.getpid() % _DOMAINS
    for number in range(first, first + _DOMAINS):
        domain = 1 + number % _DOMAINS
        with suppress(OSError):
            _RESERVED.bind(f"\0tscm domain {domain}")  # a name without a file, that is free when the process ends
            return domain
    return 1 + first  # all are taken, or this system has no such names


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
        "ROS_DOMAIN_ID": str(own_domain()),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
