"""faiss on the calling thread alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import faiss


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keep faiss to the calling thread: OpenMP's limit is one for each thread, and one set elsewhere does not hold."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
