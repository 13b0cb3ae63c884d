"""What the compilers of this package have in common: they talk a great deal, and fail at length."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
import zipfile
from collections.abc import Iterator

NO_GPU = "PyTorch finds no NVIDIA GPU here (set model.device: cpu, or install a PyTorch made for CUDA)"
FAILURES = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    LookupError,
    OSError,
    ImportError,
    zipfile.BadZipFile,
)
"""How a compiler, or the loader of what it made, says that it cannot."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing that Python code prints, logs or warns of inside is seen. Errors that are raised are."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), _redirected():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def first_line(error: BaseException) -> str:
    """What an error says, as part of a sentence: its first line, at most 200 letters, without a full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:200].rstrip(".")


@contextlib.contextmanager
def _redirected() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
