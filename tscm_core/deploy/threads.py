"""One number for the threads of every library that brings its own."""

from __future__ import annotations

import cv2
import faiss
import torch


def limit_threads(count: int) -> None:
    """Let PyTorch, OpenCV and faiss use at most ``count`` threads each in this process."""
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    faiss.omp_set_num_threads(count)
