"""The node's services. They run in callback groups of their own, so that a save never holds up images."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lifecycle_msgs.srv import ChangeState
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.lifecycle import LifecycleNode
from std_srvs.srv import Trigger

from tscm_core.datasets.image_messages import rgb_from_message
from tscm_core.errors import TscmError
from tscm_core.maps.live_answers import Relocalization
from tscm_core.maps.live_map import LiveMap
from tscm_core.maps.map_paths import given_path
from tscm_core.memory import give_back
from tscm_core.recognition.records import Frame
from tscm_msgs.srv import LoadMap, Relocalize, SaveMap
from tscm_ros.gently import gently, gently_until_told
from tscm_ros.messages import Sender, to_candidate, to_header
from tscm_ros.pipeline import ImagePipeline, stamp_of


def session_name() -> str:
    """A name for a drive that begins now: the wall clock in UTC, to the millisecond."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def answer_refused_transitions(node: LifecycleNode) -> None:
    """Let ``change_state`` answer false to a transition that the state does not have: rclpy raises and is silent."""

    def guarded(callback: Callable[..., Any]) -> Callable[..., Any]:
        def answer(request: ChangeState.Request, response: ChangeState.Response) -> Any:
            try:
                return callback(request, response)
            except RuntimeError as error:
                asked = request.transition.label or f"number {request.transition.id}"
                reason = str(error).partition(", at ")[0].rstrip(".")
                node.get_logger().warning(
                    f"change_state refused: the state that the node is in has no {asked}: {reason}"
                )
                response.success = False
                return response

        return answer

    for service in node.services:
        if service.srv_type is ChangeState:
            service.callback = guarded(service.callback)


class ServiceGroups:
    """What takes long on a large map, and what must be answered while that runs."""

    def __init__(self) -> None:
        self.slow = MutuallyExclusiveCallbackGroup()
        self.quick = MutuallyExclusiveCallbackGroup()


class MapServices:
    """Each answers with success and one sentence; a failure changes nothing."""

    def __init__(
        self,
        node: LifecycleNode,
        live_map: LiveMap,
        pipeline: ImagePipeline,
        sender: Sender,
        groups: ServiceGroups,
    ) -> None:
        self._node, self._map, self._pipeline, self._sender = node, live_map, pipeline, sender
        handlers = (
            (SaveMap, "save_map", self._save, groups.slow),
            (LoadMap, "load_map", self._load, groups.slow),
            (Relocalize, "relocalize", self._relocalize, groups.quick),
            (Trigger, "clear_map", self._clear, groups.slow),
            (Trigger, "new_session", self._new_session, groups.quick),
        )
        self._offered = [
            node.create_service(kind, f"~/{name}", self._guarded(name, handler), callback_group=group)
            for kind, name, handler, group in handlers
        ]

    def destroy(self) -> None:
        """Take the services back."""
        for service in self._offered:
            self._node.destroy_service(service)

    def _guarded(self, name: str, handler: Callable[..., str]) -> Callable[..., object]:
        def answer(request: object, response: object) -> object:
            try:
                response.message = handler(request, response)  # type: ignore[attr-defined]
                response.success = True  # type: ignore[attr-defined]
                self._node.get_logger().info(f"{name}: {response.message}")  # type: ignore[attr-defined]
            except TscmError as error:
                response.success, response.message = False, str(error)  # type: ignore[attr-defined]
                self._node.get_logger().error(f"{name} failed: {error}")
            except Exception as error:  # noqa: BLE001 - rclpy would leave the caller without an answer
                response.success, response.message = False, f"internal error, please report: {error!r}"  # type: ignore[attr-defined]
                self._node.get_logger().error(f"{name}: internal error, please report:\n{traceback.format_exc()}")
            return response

        return answer

    def _save(self, request: SaveMap.Request, response: SaveMap.Response) -> str:
        response.path = request.path
        path = self._asked_for(request.path)
        response.path = str(path or self._map.map_path)
        saved = gently(lambda: self._map.save(path))
        response.keyframes = saved.keyframes
        kept = f"; the file that was there is kept as {saved.kept}" if saved.kept else ""
        return f"saved {saved.keyframes} keyframes to {saved.path}{kept}"

    def _load(self, request: LoadMap.Request, response: LoadMap.Response) -> str:
        response.path, response.keyframes = request.path, self._map.size
        path = self._asked_for(request.path)
        response.path = str(path or self._map.map_path)
        loaded = gently_until_told(lambda tell: self._map.load(session_name(), path, tell))
        give_back()
        response.keyframes = loaded.keyframes
        kept = f"; the map that ran before is kept as {loaded.kept}" if loaded.kept else ""
        note = f"; {loaded.note}" if loaded.note else ""
        return f"loaded {loaded.keyframes} keyframes from {loaded.path}{kept}; session {self._map.session} begins{note}"

    def _asked_for(self, text: str) -> Path | None:
        return given_path(text, self._pipeline.config.map_directory) if text else None

    def _relocalize(self, request: Relocalize.Request, response: Relocalize.Response) -> str:
        frame, seen_ns = self._asked_about(request)
        response.header, response.model_id = to_header(frame.stamp_ns, frame.camera_frame), self._sender.model_id
        found = self._map.relocalize(frame.image, request.top_k, seen_ns, frame.intrinsics, frame.depth)
        response.map_size, response.stages = found.searched, list(found.stages)
        response.candidates = [to_candidate(candidate) for candidate in found.candidates]
        if not self._map.size:
            return "the map is empty"
        return _describe(found)

    def _asked_about(self, request: Relocalize.Request) -> tuple[Frame, int | None]:
        """The image that was sent, or the newest one of our camera and its stamp."""
        given = request.image
        if given.width or given.data:
            return Frame(stamp_of(given), rgb_from_message(given), camera_frame=given.header.frame_id), None
        newest = self._pipeline.newest_frame()
        if newest is None:
            raise TscmError(f"no image came on {self._pipeline.topic} yet: send one with the request")
        return newest, newest.stamp_ns

    def _clear(self, request: Trigger.Request, response: Trigger.Response) -> str:
        saved = gently(lambda: self._map.clear(session_name()))
        give_back()
        kept = f", which are kept in {saved.path}" if saved.keyframes else ""
        return f"cleared {saved.keyframes} keyframes{kept}; session {self._map.session} begins"

    def _new_session(self, request: Trigger.Request, response: Trigger.Response) -> str:
        return f"session {self._map.begin_session(session_name())} begins; the map has {self._map.size} keyframes"


def _describe(found: Relocalization) -> str:
    if not found.candidates:
        return (
            "the robot saw all keyframes of the map just now (recency.*): send an image with the request to search them"
        )
    best = found.candidates[0]
    verified = f" ({best.inliers} of {best.matches} matched features agree)" if best.matches else ""
    return (
        f"best of {found.searched} keyframes is {best.keyframe_id} of session {best.session} with similarity "
        f"{best.similarity:.3f}{verified}: {best.status.name}"
    )
