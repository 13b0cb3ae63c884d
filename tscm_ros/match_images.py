"""``~/match_image``: the newest loop as a picture that a person can judge, made only while somebody looks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image

from tscm_core.config import Config, GeometryConfig
from tscm_core.datasets.encoded_images import decode
from tscm_core.datasets.image_messages import from_rgb
from tscm_core.errors import TscmError
from tscm_core.maps.live_map import LiveMap
from tscm_core.recognition.evidence import decoded
from tscm_core.recognition.local_features import LocalFeatures
from tscm_core.recognition.match_picture import draw_matches
from tscm_core.recognition.records import Candidate, Observation, Rgb
from tscm_core.recognition.two_view import verify
from tscm_ros.messages import to_header
from tscm_ros.worker import NewestWorker

_LOG_PERIOD_S = 5.0
_MOST_PIXELS = 1 << 24
"""Of a thumbnail: far more than ``map.thumbnail_width`` allows, and a map may come from anywhere."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A frame that closed a loop, with what is needed to draw it."""

    image: Rgb
    seen: Observation
    camera_frame: str
    rule: GeometryConfig


class MatchImages:
    """Draws in a thread of its own, so that candidates never wait for pictures; a newer loop replaces a waiting one."""

    def __init__(self, node: LifecycleNode, live_map: LiveMap) -> None:
        self._node, self._map = node, live_map
        self._publisher = node.create_publisher(Image, "~/match_image", 1)
        self._worker = NewestWorker(self._publish, "tscm-pictures")

    def destroy(self) -> None:
        """Finish the picture at hand and take the topic back."""
        self._worker.stop()
        self._node.destroy_publisher(self._publisher)

    def offer(self, image: Rgb, seen: Observation, camera_frame: str, config: Config) -> None:
        """Draw this frame if it closed a loop and somebody looks; returns at once."""
        if seen.own_accepted and self._publisher.get_subscription_count() > 0:
            self._worker.put(Shown(image, seen, camera_frame, config.geometry))

    def _publish(self, shown: Shown) -> None:
        try:
            picture = self._draw(shown)
            if picture is not None:
                message = Image(header=to_header(shown.seen.stamp_ns, shown.camera_frame))
                self._publisher.publish(from_rgb(picture, message))
        except TscmError as error:
            self._node.get_logger().warning(f"match_image: {error}", throttle_duration_sec=_LOG_PERIOD_S)
        except Exception as error:  # noqa: BLE001 - a defect of ours must not end the thread, nor go unseen
            self._node.get_logger().error(
                f"match_image: internal error, please report: {error!r}", throttle_duration_sec=_LOG_PERIOD_S
            )

    def _draw(self, shown: Shown) -> Rgb | None:
        best = shown.seen.own_accepted[0]
        jpeg = self._map.thumbnail(best.keyframe_id)
        if jpeg is None:  # the map was cleared meanwhile
            return None
        place = np.asarray(cv2.cvtColor(decode(jpeg, _MOST_PIXELS, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), np.uint8)
        query, match = _features_of(shown.seen), self._map.features(best.keyframe_id)
        if query is None or match is None:
            nothing = np.zeros((0, 2), np.float32)
            return draw_matches(shown.image, place, nothing, nothing, np.zeros(0, np.bool_), caption(best))
        view = verify(query, match, shown.rule)
        ours, theirs = query.points[view.pairs[:, 0]], match.points[view.pairs[:, 1]]
        shrunk = theirs * np.array([place.shape[1] / match.width, place.shape[0] / match.height])
        return draw_matches(shown.image, place, ours, shrunk, view.inliers, caption(best))


def caption(best: Candidate) -> str:
    """The evidence in one line."""
    return (
        f"keyframe {best.keyframe_id} of {best.session}: similarity {best.similarity:.3f}, "
        f"{best.inliers} of {best.matches} matches agree, support {best.temporal_support}"
    )


def _features_of(seen: Observation) -> LocalFeatures | None:
    asked = seen.query or seen.keyframe
    return None if asked is None else decoded(asked.features)
