"""A key and an engine as a backend would make them, for the tests of the cache."""

from __future__ import annotations

import dataclasses

import numpy as np

from tscm_core.deploy.engine_file import EngineInfo, EngineKey

KEY = EngineKey(
    model_id="efficientnet_lite0-320x240-0123456789ab",
    weights_sha256="ab" * 32,
    backend="onnxruntime",
    backend_version="onnxruntime 1.32.0",
    device="A processor x86_64 12345678",
    precision="fp32",
    input_size=(320, 240),
    program="tscm 0.1.0 cdef",
    options="threads 1",
)
OTHER = {
    "model_id": "resnet50-224x224-ba9876543210",
    "weights_sha256": "cd" * 32,
    "backend": "inductor",
    "backend_version": "onnxruntime 1.31.0",
    "device": "Another GPU, compute capability 8.7",
    "precision": "fp16",
    "input_size": (224, 224),
    "program": "tscm 0.1.0 0123",
    "options": "threads 2",
}
"""For every field of a key another value than that of ``KEY``."""
PROBE = np.arange(8, dtype=np.float32).reshape(2, 4)


def engine(key=KEY, **changes):
    """What is known of an engine with two probe images and descriptors of four numbers."""
    about = EngineInfo(
        key=key,
        descriptor_id=key.model_id,
        dim=4,
        probe=PROBE.tobytes(),
        agreement=0.99998,
        built_at=1_700_000_000_123_456_789,
        build_s=2.5,
    )
    return dataclasses.replace(about, **changes)


def with_other(field):
    """``KEY``, but for one field."""
    return dataclasses.replace(KEY, **{field: OTHER[field]})
