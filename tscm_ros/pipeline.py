"""From image topic to candidate topic: take the newest image, convert it, ask the core, publish."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image

from tscm_core.config import Config
from tscm_core.datasets.image_messages import rgb_from_message
from tscm_core.errors import ImageError, StampError, TscmError
from tscm_core.maps.live_map import LiveMap
from tscm_core.recognition.records import Frame, Observation, Rgb, StageTime
from tscm_msgs.msg import FrameStatus, Keyframe, LoopCandidates
from tscm_ros.companions import Companions
from tscm_ros.markers import Markers
from tscm_ros.match_images import MatchImages
from tscm_ros.messages import Counts, Sender, to_frame_status, to_keyframe, to_loop_candidates
from tscm_ros.statistics import InputStatistics, StageStatistics
from tscm_ros.worker import NewestWorker

_LOG_PERIOD_S = 5.0
_SENSOR_QOS = QoSProfile(depth=30, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Far deeper than ROS's sensor data profile: an image that waits here while the machine stalls is counted when a newer
one wins, one that overflows is not. Parameter ``qos_overrides.<topic>.subscription.depth`` changes it."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An image message and when it came, by the monotonic clock."""

    message: Image | CompressedImage
    at_s: float


class ImagePipeline:
    """Subscriptions, worker and publishers. Images are let in only between :meth:`start` and :meth:`stop`."""

    def __init__(self, node: LifecycleNode, live_map: LiveMap, config: Config, sender: Sender) -> None:
        self.config = config
        self.refused = 0
        self.last_refusal = ""
        self._refused_at = -math.inf
        self.newest: Image | CompressedImage | None = None
        self.inputs, self.stages = InputStatistics(), StageStatistics()
        self.worker: NewestWorker[Arrival] | None = None
        self._node, self._map, self._sender = node, live_map, sender
        kind = CompressedImage if config.image_transport == "compressed" else Image
        overrides = QoSOverridingOptions.with_default_policies()
        self._images = node.create_subscription(
            kind, "image", self._on_image, _SENSOR_QOS, qos_overriding_options=overrides
        )
        self.companions = Companions(node, _SENSOR_QOS, self._count_info)
        self._candidates = node.create_publisher(LoopCandidates, "~/loop_candidates", 10)
        self._status = node.create_publisher(FrameStatus, "~/frame_status", 10)
        self._keyframes = node.create_publisher(Keyframe, "~/keyframes", 100)
        self._pictures, self._markers = MatchImages(node, live_map), Markers(node, live_map)

    @property
    def topic(self) -> str:
        """The image topic, resolved."""
        return str(self._images.topic_name)

    def start(self) -> None:
        """Let images in, with all counts at zero."""
        self.inputs, self.stages = InputStatistics(), StageStatistics()
        self.refused, self.last_refusal, self._refused_at = 0, "", -math.inf
        self.worker = NewestWorker(self._process, "tscm-worker")

    def stop(self) -> None:
        """Finish the image at hand and let no more in."""
        if self.worker is not None:
            self.worker.stop()
            self.worker = None

    def destroy(self) -> None:
        """Take back subscriptions and publishers."""
        self.stop()
        self._node.destroy_subscription(self._images)
        for part in (self.companions, self._pictures, self._markers):
            part.destroy()
        for publisher in (self._candidates, self._status, self._keyframes):
            self._node.destroy_publisher(publisher)

    @property
    def refuses_s(self) -> float:
        """Seconds since an image was refused; infinite if none was."""
        return time.monotonic() - self._refused_at

    def refuse(self, reason: str) -> None:
        """Count an image that cannot be used, and say why."""
        self.last_refusal, self._refused_at = reason, time.monotonic()
        self.refused += 1  # last: whoever reads the number, and then the reason, reads a reason that is no older
        self._node.get_logger().warning(f"image refused: {reason}", throttle_duration_sec=_LOG_PERIOD_S)

    def _on_image(self, message: Image | CompressedImage) -> None:
        worker = self.worker
        if worker is None:
            return
        if self.newest is None:
            self._node.get_logger().info(f"first image: {message.header.frame_id or 'no frame_id'}")
        self.newest = message
        self.inputs.add(stamp_of(message))
        worker.put(Arrival(message, time.monotonic()))

    def _count_info(self) -> None:
        self.inputs.add_info()

    def newest_frame(self) -> Frame | None:
        """The newest image that came in, with what is known about it now; ``None`` if none came.

        Raises:
            ImageError: it cannot be used.
        """
        message = self.newest
        if message is None:
            return None
        image = rgb_from_message(message)
        return self.companions.frame_again(stamp_of(message), image, message.header.frame_id, self.config.input)

    def _process(self, arrival: Arrival) -> None:
        try:
            image, seen, times = self._recognise(arrival.message)
            self._publish(seen, times, arrival)
            self._markers.add(seen)
            self._pictures.offer(image, seen, arrival.message.header.frame_id, self.config)
        except StampError as error:
            self.refuse(
                f"{error}: ros2 service call {self._node.get_fully_qualified_name()}/new_session std_srvs/srv/Trigger"
            )
        except TscmError as error:  # the image cannot be used, or the map file cannot be read
            self.refuse(str(error))
        except Exception as error:  # noqa: BLE001 - a defect of ours must not end the thread, nor go unseen
            self.refuse(f"internal error, please report: {error!r}")

    def _recognise(self, message: Image | CompressedImage) -> tuple[Rgb, Observation, tuple[StageTime, ...]]:
        started = time.perf_counter()
        image = rgb_from_message(message)
        if not stamp_of(message):
            raise ImageError("the image has no time stamp: the camera's driver must set header.stamp")
        converted = time.perf_counter()
        frame = self.companions.frame(stamp_of(message), image, message.header.frame_id, self.config.input)
        waited = time.perf_counter()
        seen = self._map.observe(frame)
        return (
            image,
            seen,
            (
                StageTime("convert", (converted - started) * 1e3),
                StageTime("pose", (waited - converted) * 1e3),
                *seen.stage_times,
            ),
        )

    def _publish(self, seen: Observation, times: tuple[StageTime, ...], arrival: Arrival) -> None:
        self.stages.add(times)
        camera, worker = arrival.message.header.frame_id, self.worker
        self._node.get_logger().debug(f"{seen.status.name}: {seen.reason}")
        if seen.accepted:
            self._node.get_logger().info(f"loop: {seen.reason}", throttle_duration_sec=_LOG_PERIOD_S)
            self._candidates.publish(to_loop_candidates(seen, times, self._sender, camera))
        if seen.keyframe is not None:
            self._keyframes.publish(to_keyframe(seen.keyframe, self._sender, camera))
        latency_ms = (time.monotonic() - arrival.at_s) * 1e3
        counts = Counts(worker.dropped if worker else 0, self.refused, latency_ms)
        self._status.publish(to_frame_status(seen, times, self._sender, camera, counts))
        if self._map.fault:
            self._node.get_logger().error(self._map.fault, throttle_duration_sec=_LOG_PERIOD_S)


def stamp_of(message: Image | CompressedImage) -> int:
    """The stamp in the header, in nanoseconds."""
    stamp = message.header.stamp
    return int(stamp.sec * 10**9 + stamp.nanosec)
