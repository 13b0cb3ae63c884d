"""One number for the threads of every library that brings its own."""

from __future__ import annotations

import sys

import cv2
import faiss


def limit_threads(count: int) -> None:
    """Let PyTorch, OpenCV and faiss use at most ``count`` threads each in this process.

    PyTorch is told only if it is loaded already: with a compiled network it never is. ONNX Runtime is told by each of
    its sessions. OpenMP, and so faiss, keeps its limit for the calling thread alone; searching and verifying therefore
    ask for one thread wherever they are called.
    """
    cv2.setNumThreads(count)
    faiss.omp_set_num_threads(count)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(count)
