"""Which frames are worth remembering. Each refusal is a sentence with the figures that decided it."""

from __future__ import annotations

import math

from tscm_core.config import KeyframeConfig
from tscm_core.recognition.image import texture
from tscm_core.recognition.poses import angle_rad, distance_m
from tscm_core.recognition.records import Descriptor, Frame, Keyframe, Pose, Rgb


class KeyframeGate:
    """Compares each frame with the last keyframe of the session; with no odometry it goes by time and novelty alone.

    The gates are asked in the order of what they cost: motion before the image is touched, texture before the network
    runs, novelty after it. Each returns the reason why the frame is not a keyframe, or ``None``.
    """

    def __init__(self, config: KeyframeConfig) -> None:
        self.config = config
        self.last: Keyframe | None = None

    def refuse_motion(self, frame: Frame) -> str | None:
        """Too soon after the last keyframe, or neither far enough from it nor turned enough."""
        if self.last is None:
            return None
        elapsed = (frame.stamp_ns - self.last.stamp_ns) / 1e9
        if elapsed < self.config.min_interval_s:
            return f"{elapsed:.2f} s after the last keyframe (keyframes.min_interval_s {self.config.min_interval_s:g})"
        gates = self.config.min_distance_m or self.config.min_angle_deg
        if not gates or frame.pose is None or not comparable(frame.pose, self.last.pose):
            return None
        return self._refuse_step(frame.pose, self.last.pose)

    def _refuse_step(self, pose: Pose, last: Pose | None) -> str | None:
        assert last is not None
        moved, turned = distance_m(pose, last), math.degrees(angle_rad(pose, last))
        far = self.config.min_distance_m and moved >= self.config.min_distance_m
        round_enough = self.config.min_angle_deg and turned >= self.config.min_angle_deg
        if far or round_enough:
            return None
        return (
            f"moved {moved:.2f} m and turned {turned:.0f} deg since the last keyframe (keyframes.min_distance_m "
            f"{self.config.min_distance_m:g}, keyframes.min_angle_deg {self.config.min_angle_deg:g})"
        )

    def refuse_texture(self, image: Rgb) -> str | None:
        """Too little to see: a wall, a covered lens, darkness."""
        if not self.config.min_texture:
            return None
        share = texture(image)
        if share >= self.config.min_texture:
            return None
        return f"only {share:.1%} of the image shows structure (keyframes.min_texture {self.config.min_texture:g})"

    def refuse_novelty(self, frame: Frame, descriptor: Descriptor) -> str | None:
        """Looks like the last keyframe, and no odometry says that it is elsewhere."""
        if self.last is None or not self.config.min_novelty or comparable(frame.pose, self.last.pose):
            return None
        novelty = max(0.0, 1.0 - float(descriptor @ self.last.descriptor))
        if novelty >= self.config.min_novelty:
            return None
        return (
            f"descriptor changed by {novelty:.3f} since the last keyframe "
            f"(keyframes.min_novelty {self.config.min_novelty:g})"
        )


def comparable(a: Pose | None, b: Pose | None) -> bool:
    """Whether both poses are known and in the same frame."""
    return a is not None and b is not None and a.frame_id == b.frame_id
