"""What an engine is for and what is known of it, in Python and as the header of its file."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SUFFIX = ".engine"
_SAID = {"options": "set of options", "model_id": "model", "weights_sha256": "weights", "backend_version": "version"}


class StaleEngine(Exception):  # noqa: N818 - nothing failed: it is built again
    """An engine is not to be loaded. The message is a clause for the log: ``the one in the cache is cut off``."""


@dataclass(frozen=True, slots=True)
class EngineKey:
    """All that an engine depends on: it is loaded only where each of these is equal."""

    model_id: str
    """Of the float32 network with its preprocessing."""
    weights_sha256: str
    """Of the weights file."""
    backend: str
    backend_version: str
    """Of all that compiles and runs: ``onnxruntime 1.32.0``."""
    device: str
    """Name of the processor or GPU, with its compute capability."""
    precision: str
    input_size: tuple[int, int]
    """(width, height) in pixels."""
    program: str
    """What of our own code was compiled, and in which version."""
    options: str = ""
    """What else was compiled in: batch size, threads, workspace."""

    def file_name(self) -> str:
        """A name for people, and a hash of the whole key, of which no two keys have the same."""
        size = f"{self.input_size[0]}x{self.input_size[1]}"
        parts = [self.model_id, *([] if size in self.model_id else [size]), self.backend, self.precision]
        said = "".join(
            char if char.isascii() and (char.isalnum() or char in "-._") else "_" for char in "-".join(parts)
        )
        digest = hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()
        return f"{said[:120]}-{digest[:16]}{SUFFIX}"

    def difference(self, wanted: EngineKey) -> str:
        """What of this engine is not as ``wanted``: ``its device is A, not B``; empty if all is."""
        names = [field.name for field in dataclasses.fields(EngineKey)]
        return "; ".join(
            f"its {_SAID.get(name, name.replace('_', ' '))} is {_shown(getattr(self, name))}, "
            f"not {_shown(getattr(wanted, name))}"
            for name in names
            if getattr(self, name) != getattr(wanted, name)
        )


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What is known of a compiled network without loading it."""

    key: EngineKey
    descriptor_id: str
    """The ``model_id`` that its descriptors carry; not the key's for int8, whose descriptors are others."""
    dim: int
    """Numbers in a descriptor."""
    probe: bytes
    """What it must say of the probe images: little-endian float32 ``[P, dim]``."""
    agreement: float
    """Least cosine of what it said of them when it was built to what eager float32 says."""
    built_at: int
    """Nanoseconds since 1970, UTC."""
    build_s: float
    """Seconds that compiling took."""
    calibration: str = ""
    """Hash of the images that int8 learnt from; empty otherwise."""

    def probe_descriptors(self) -> NDArray[np.float32]:
        """``probe`` as float32 ``[P, dim]``."""
        return np.frombuffer(self.probe, "<f4").astype(np.float32).reshape(-1, self.dim)


def to_header(info: EngineInfo, payload: bytes) -> bytes:
    """The header of the file that holds an engine."""
    fields = dataclasses.asdict(info) | {
        "probe": base64.b64encode(info.probe).decode(),
        "agreement": float(info.agreement),
        "build_s": float(info.build_s),
    }
    about = {"size": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
    return json.dumps({"engine": fields, "payload": about}, sort_keys=True).encode()


def from_header(header: bytes) -> tuple[EngineInfo, int, bytes]:
    """The engine, and size and SHA-256 of its payload, from a header that is whole.

    Raises:
        StaleEngine: it was written with other fields.
    """
    try:
        tree = json.loads(header)
        engine, payload = tree["engine"], tree["payload"]
        key = {**engine["key"], "input_size": tuple(engine["key"]["input_size"])}
        info = EngineInfo(**{**engine, "key": EngineKey(**key), "probe": base64.b64decode(engine["probe"])})
        if not _is_sound(info) or type(payload["size"]) is not int:
            raise ValueError
        return info, payload["size"], bytes.fromhex(payload["sha256"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StaleEngine("the one in the cache was written by another version of tscm") from error


def _is_sound(info: EngineInfo) -> bool:
    """Whether all fields are of their types."""
    words = [getattr(info.key, field.name) for field in dataclasses.fields(EngineKey) if field.name != "input_size"]
    numbers = (info.dim, info.built_at, *info.key.input_size)
    return (
        all(type(word) is str for word in (*words, info.descriptor_id, info.calibration))
        and all(type(number) is int for number in numbers)
        and all(type(number) is float for number in (info.agreement, info.build_s))
        and len(info.key.input_size) == 2
        and info.dim > 0
        and len(info.probe) % (4 * info.dim) == 0
    )


def _shown(value: object) -> str:
    return f"{value[0]}x{value[1]}" if isinstance(value, tuple) else str(value) or "none"
