"""Where a camera was at a moment, whichever kind of topic tells it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from tscm_core.datasets.pose_messages import pose_from_odometry, pose_from_stamped
from tscm_core.datasets.satellite_fixes import fix_from_message, poses_from_fixes
from tscm_core.datasets.transform_tree import BODY_FRAMES, FIXED_FRAMES, TransformChain, TransformTree
from tscm_core.recognition.poses import PoseTrack
from tscm_core.recognition.records import Pose

Stamped = Iterable[tuple[int, Any]]
"""Messages with their stamps in nanoseconds."""

_READERS: dict[str, Callable[[Any], Any]] = {
    "odometry": pose_from_odometry,
    "pose": pose_from_stamped,
    "fix": fix_from_message,
}


class PoseSource(Protocol):
    """``PoseTrack`` and ``TransformChain`` keep it."""

    def at(self, stamp_ns: int, max_gap_ns: int) -> Pose | None:
        """The pose at ``stamp_ns``; ``None`` if what it would be made from is further than ``max_gap_ns`` away."""


def track_of(kind: str, messages: Stamped) -> PoseTrack:
    """The track of all messages of a topic of ``kind`` odometry, pose or fix, in the order of their stamps.

    Those with a number that is not finite, and satellite fixes without a place, are left out.
    """
    read = _READERS[kind]
    found = sorted(((stamp_ns, read(message)) for stamp_ns, message in messages), key=lambda item: item[0])
    known = ((stamp_ns, item) for stamp_ns, item in found if item is not None)
    track = PoseTrack(capacity=10**9)
    for stamp_ns, pose in poses_from_fixes(known) if kind == "fix" else known:
        track.add(stamp_ns, pose)
    return track


def chain_of(moving: Stamped, static: Stamped, camera_frame: str, fixed_frame: str = "") -> TransformChain | None:
    """The way from the camera up to a frame that stands still, by the messages of ``/tf`` and ``/tf_static``.

    Args:
        moving: messages of ``/tf``.
        static: messages of ``/tf_static``.
        camera_frame: the frame of the images; where the tree lacks it, one of ``BODY_FRAMES`` is taken.
        fixed_frame: the frame to give poses in; empty: the first of ``FIXED_FRAMES`` that is above the camera.

    Returns:
        ``None`` if there is no such way.
    """
    tree = TransformTree()
    for messages, is_static in ((moving, False), (static, True)):
        for _, message in messages:
            tree.add(message, is_static)
    return tree.chain((camera_frame, *BODY_FRAMES), (fixed_frame,) if fixed_frame else FIXED_FRAMES)
