"""What belongs to an image beside its pixels: where the robot was, what the camera is like, how far away things are."""

from __future__ import annotations

import time
from collections.abc import Callable

from nav_msgs.msg import Odometry
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image

from tscm_core.config import InputConfig
from tscm_core.datasets.depth_messages import depth_from_message
from tscm_core.datasets.pose_messages import intrinsics_from_message, intrinsics_problem
from tscm_core.errors import ImageError
from tscm_core.recognition.local_features import scaled
from tscm_core.recognition.records import Depth, Frame, Intrinsics, Rgb
from tscm_ros.depth_buffer import DepthBuffer
from tscm_ros.pose_buffer import PoseBuffer

_LOG_PERIOD_S = 30.0
_SAME_SHAPE = 0.02


class Companions:
    """Subscriptions to odometry, camera info and depth. None of them need exist, and none can spoil an image."""

    def __init__(self, node: LifecycleNode, qos: QoSProfile, on_info: Callable[[], None]) -> None:
        """``on_info`` is called for every camera info: it is small, and sent with every image."""
        self._node, self._on_info_came = node, on_info
        self._poses, self._depths = PoseBuffer(self._has_odometry), DepthBuffer()
        self._camera: Intrinsics | None = None
        self._camera_text, self._said = "", ""
        overrides = QoSOverridingOptions.with_default_policies()
        self._odometry, self._info, self._depth = self.subscriptions = tuple(
            node.create_subscription(kind, topic, callback, qos, qos_overriding_options=overrides)
            for kind, topic, callback in (
                (Odometry, "odometry", self._poses.add),
                (CameraInfo, "camera_info", self._on_info),
                (Image, "depth", self._depths.add),
            )
        )

    def destroy(self) -> None:
        """Take back the subscriptions."""
        for subscription in self.subscriptions:
            self._node.destroy_subscription(subscription)

    def frame(self, stamp_ns: int, image: Rgb, camera_frame: str, rule: InputConfig) -> Frame:
        """The frame of an image that came in; waits, in all, up to ``input.odometry_wait_s`` for what belongs to it."""
        deadline = time.monotonic() + rule.odometry_wait_s
        pose = self._poses.at(stamp_ns, rule.odometry_wait_s, rule.odometry_max_gap_s)
        depth = self._depth_at(stamp_ns, image, max(0.0, deadline - time.monotonic()), rule.depth_max_gap_s)
        return Frame(stamp_ns, image, pose, camera_frame, self._camera_of(image), depth)

    def frame_again(self, stamp_ns: int, image: Rgb, camera_frame: str, rule: InputConfig) -> Frame:
        """The frame of an image that came a while ago: nothing is waited for, and where the robot was is left out."""
        depth = self._depth_at(stamp_ns, image, 0.0, rule.depth_max_gap_s)
        return Frame(stamp_ns, image, None, camera_frame, self._camera_of(image), depth)

    def texts(self) -> dict[str, str]:
        """Whether they come, for people: by name."""
        return {
            "odometry": self._text(self._odometry.topic_name, self._poses.age_s),
            "camera info": self._camera_text or self._text(self._info.topic_name, None),
            "depth": self._text(self._depth.topic_name, self._depths.age_s),
        }

    def _text(self, topic: str, age_s: float | None) -> str:
        if age_s is not None:
            return f"on {topic}, last one {age_s:.1f} s ago"
        return f"none on {topic} yet" + ("" if self._node.count_publishers(topic) else "; nobody sends any")

    def _has_odometry(self) -> bool:
        return self._node.count_publishers(self._odometry.topic_name) > 0

    def _on_info(self, message: CameraInfo) -> None:
        self._on_info_came()
        self._camera = intrinsics_from_message(message)
        if self._camera is None:
            self._say_unused(intrinsics_problem(message))

    def _camera_of(self, image: Rgb) -> Intrinsics | None:
        """The intrinsics for images of this size."""
        camera, (height, width) = self._camera, image.shape[:2]
        if camera is None:
            return None
        fitted = scaled(camera, width, height)
        if fitted is None:
            self._say_unused(
                f"it is for images of {camera.width} x {camera.height} pixels, and those that come have "
                f"{width} x {height}: another shape, not another size"
            )
        else:
            self._say_used(camera, fitted)
        return fitted

    def _say_used(self, camera: Intrinsics, fitted: Intrinsics) -> None:
        how = "" if fitted == camera else f", scaled from {camera.width} x {camera.height}"
        self._camera_text = (
            f"{fitted.width} x {fitted.height} pixels{how}, focal length {fitted.fx:.1f}, "
            f"{fitted.distortion_model or 'no distortion'}"
        )
        if self._is_news():
            self._node.get_logger().info(f"camera: {self._camera_text}")

    def _say_unused(self, problem: str) -> None:
        self._camera_text = f"not used: {problem}"
        if self._is_news():
            self._node.get_logger().warning(f"camera info on {self._info.topic_name} is {self._camera_text}")

    def _is_news(self) -> bool:
        before, self._said = self._said, self._camera_text
        return self._said != before

    def _depth_at(self, stamp_ns: int, image: Rgb, wait_s: float, max_gap_s: float) -> Depth | None:
        message = self._depths.nearest(stamp_ns, wait_s, max_gap_s)
        if message is None:
            return None
        try:
            depth = depth_from_message(message)
            _require_same_view(depth, image)
        except ImageError as error:
            self._node.get_logger().warning(f"depth is not used: {error}", throttle_duration_sec=_LOG_PERIOD_S)
            return None
        return depth


def _require_same_view(depth: Depth, image: Rgb) -> None:
    """Depth may have another size than the image, for it is the same view; but not another shape."""
    (rows, columns), (height, width) = depth.shape, image.shape[:2]
    if abs(columns * height / (rows * width) - 1.0) > _SAME_SHAPE:
        raise ImageError(
            f"depth image of {columns} x {rows} pixels is not registered to the image of {width} x {height}: "
            "choose the topic of depth that is aligned to the camera's picture"
        )
