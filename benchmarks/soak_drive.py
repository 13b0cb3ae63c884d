"""A drive that never ends: the messages of bags, kept in memory, played again and again with stamps that go on."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rosbags.highlevel import AnyReader

from tscm_core.datasets.bag_files import reason
from tscm_core.datasets.bag_writer import CAMERA_INFO_TOPIC, DEPTH_TOPIC, IMAGE_TOPIC, ODOMETRY_TOPIC
from tscm_core.errors import BagError

_TOPICS = {
    "sensor_msgs/msg/Image": IMAGE_TOPIC,
    "sensor_msgs/msg/CameraInfo": CAMERA_INFO_TOPIC,
    "nav_msgs/msg/Odometry": ODOMETRY_TOPIC,
}
_SECOND = 10**9
_STAMP = struct.Struct("<iI")
_STAMP_AT = 4
"""All three kinds begin with a header, and that with its stamp, after the four bytes that name the encoding."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One message as it goes over the wire, and the topic that it goes to."""

    topic: str
    raw: bytes

    @property
    def stamp_ns(self) -> int:
        """The stamp in its header."""
        seconds, nanoseconds = _STAMP.unpack_from(self.raw, _STAMP_AT)
        return int(seconds * _SECOND + nanoseconds)

    def later(self, shift_ns: int) -> bytes:
        """The same message with a stamp that much later."""
        stamp = _STAMP.pack(*divmod(self.stamp_ns + shift_ns, _SECOND))
        return b"".join((self.raw[:_STAMP_AT], stamp, memoryview(self.raw)[_STAMP_AT + _STAMP.size :]))


@dataclass(frozen=True, slots=True)
class Shot:
    """Image ``number``, from 1, with its stamp, after what belongs to it; whether a drive ``begins`` with it."""

    number: int
    begins: bool
    stamp_ns: int
    messages: tuple[tuple[str, bytes], ...]


Step = tuple[Stored, ...]
"""Odometry and camera info, as many as there are, and then the image that they came before."""


def read_drive(bag: Path) -> list[Step]:
    """All images of a bag with its odometry and camera info.

    Raises:
        BagError: it cannot be read, has no raw images, or those of several cameras.
    """
    try:
        with AnyReader([bag]) as reader:
            chosen = [item for item in reader.connections if item.msgtype in _TOPICS and item.topic != DEPTH_TOPIC]
            messages = [Stored(_TOPICS[item.msgtype], bytes(raw)) for item, _, raw in reader.messages(chosen)]
    except Exception as error:  # rosbags lets errors of yaml, sqlite3 and struct through
        raise BagError(bag, reason(bag, error)) from error
    cameras = {item.topic for item in chosen if _TOPICS[item.msgtype] == IMAGE_TOPIC}
    if len(cameras) != 1 or not messages:
        raise BagError(
            bag, f"has raw images on {len(cameras)} topics and must have them on one: make a bag of one camera"
        )
    return list(_steps(messages))


def _steps(messages: Iterable[Stored]) -> Iterator[Step]:
    """What comes after the last image belongs to none and is left out."""
    together: list[Stored] = []
    for message in messages:
        together.append(message)
        if message.topic == IMAGE_TOPIC:
            yield tuple(together)
            together = []


def endless(drives: Sequence[Sequence[Step]]) -> Iterator[Shot]:
    """The drives one after the other, and from the first again; every stamp is later than the one before."""
    number, end_ns = 0, None
    while True:
        for drive in drives:
            first_ns = min(message.stamp_ns for message in drive[0])
            shift_ns = 0 if end_ns is None else end_ns + period_ns(drive) - first_ns
            for index, step in enumerate(drive):
                number += 1
                end_ns = step[-1].stamp_ns + shift_ns
                yield Shot(number, index == 0, end_ns, tuple((item.topic, item.later(shift_ns)) for item in step))


def period_ns(drive: Sequence[Step]) -> int:
    """Nanoseconds between two images of a drive, on average; a second if there is one image only."""
    steps = len(drive) - 1
    return (drive[-1][-1].stamp_ns - drive[0][-1].stamp_ns) // steps if steps else _SECOND
