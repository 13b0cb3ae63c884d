"""What is compiled while testing is kept beside pytest's own cache, and not among the user's."""

from __future__ import annotations

import os
from pathlib import Path


def pytest_configure() -> None:
    """For this process and those that it starts."""
    os.environ["XDG_CACHE_HOME"] = str(Path(__file__).resolve().parent.parent / ".pytest_cache" / "home")
