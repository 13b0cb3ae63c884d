"""The lifecycle node ``tscm``: «I have been here before»."""

from __future__ import annotations

import gc
import os
import time
import traceback
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.callback_groups import CallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from tscm_core.config import Config
from tscm_core.deploy.backend import Stop
from tscm_core.deploy.load import load_describer
from tscm_core.errors import (
    MapFileError,
    MapInUseError,
    MissingDependencyError,
    ModelMismatchError,
    StoppedError,
    TscmError,
)
from tscm_core.maps.live_map import LiveMap, open_live_map
from tscm_core.memory import give_back
from tscm_core.recognition.descriptor import Describer
from tscm_ros.diagnostics import Snapshot, diagnose
from tscm_ros.messages import Sender
from tscm_ros.other_robots import OtherRobots, resolve_topics
from tscm_ros.parameters import ParameterWatch, declare_parameters
from tscm_ros.pipeline import ImagePipeline
from tscm_ros.services import MapServices, ServiceGroups, answer_refused_transitions, session_name

_BEGIN_EMPTY = " (map.resume:=false begins empty and keeps that map as *.previous-<time>)"
_DONE, _FAILED = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE

_LOG_PERIOD_S = 30.0


class PlaceRecognitionNode(LifecycleNode):
    """Configuring loads the network and opens the map, activating lets images in."""

    def __init__(self, stop: Stop = lambda: False) -> None:
        """Declare parameters.

        Args:
            stop: asked while the network is being compiled, which may take minutes, whether to give up.

        Raises:
            ConfigError: a parameter is out of range.
        """
        super().__init__("tscm")
        answer_refused_transitions(self)
        self._groups = ServiceGroups()
        self._watch = ParameterWatch(self, declare_parameters(self), self._reconfigure)
        self._stop = stop
        self._silent_until: dict[tuple[str, bytes], float] = {}
        self._map: LiveMap | None = None
        self._pipeline: ImagePipeline | None = None
        self._map_services: MapServices | None = None
        self._robots: OtherRobots | None = None

    @property
    def config(self) -> Config:
        """The settings as they are now."""
        return self._watch.config

    @property
    def groups_apart(self) -> tuple[CallbackGroup, ...]:
        """Callback groups that need threads of their own."""
        return (self._groups.slow, self._groups.quick)

    def autostart(self) -> bool:
        """Configure and activate, if the parameter says so; false if that failed."""
        if not self.config.autostart:
            self.get_logger().info("unconfigured: waiting for a lifecycle manager (parameter autostart is false)")
            return True
        return bool(self.trigger_configure() == _DONE and self.trigger_activate() == _DONE)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the network, open the map, offer topics and services."""
        try:
            self._configure()
        except StoppedError as error:
            self.get_logger().info(str(error))
        except TscmError as error:
            about_map = isinstance(error, MapFileError | ModelMismatchError) and not isinstance(error, MapInUseError)
            self.get_logger().fatal(f"{error}{_BEGIN_EMPTY if about_map else ''}")
        except Exception:  # noqa: BLE001 - rclpy would swallow it and report a failed transition without a reason
            self.get_logger().fatal(f"internal error, please report:\n{traceback.format_exc()}")
        else:
            return _DONE
        self.release()
        return _FAILED

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let images in."""
        assert self._pipeline is not None
        self._pipeline.start()
        odometry, info, depth = (item.topic_name for item in self._pipeline.companions.subscriptions)
        self.get_logger().info(
            f"active: waiting for images on {self._pipeline.topic} ({self.config.image_transport}); optional: odometry "
            f"on {odometry}, intrinsics on {info}, registered depth on {depth}"
        )
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Finish the image at hand and let no more in; services go on."""
        assert self._pipeline is not None
        self._pipeline.stop()
        self.get_logger().info("inactive: images are ignored")
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the map and take topics and services back."""
        self.release()
        return _DONE

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the map."""
        self.release()
        return _DONE

    def release(self) -> None:
        """Finish the image at hand and close the map; a second call does nothing."""
        if self._map_services is not None:
            self._map_services.destroy()
            self.destroy_timer(self._report_timer)
            self.destroy_publisher(self._report)
        if self._robots is not None:
            self._robots.destroy()
        if self._pipeline is not None:
            self._pipeline.destroy()
        if self._map is not None:
            self._map.close()
            self.get_logger().info(f"map closed: {self._map.size} keyframes in {self._map.live_path}")
        self._map = self._pipeline = self._map_services = self._robots = None
        gc.collect()  # callbacks and what they are bound to hold each other: a large map would wait for that in memory
        give_back()

    def _configure(self) -> None:
        config = self.config
        others = resolve_topics(self, config.robots.keyframe_topics)  # first: the network and the map take a while
        describer = self._describer()
        sender = Sender(self.get_namespace().strip("/"), describer.model_id)
        self._map = open_live_map(self._map_path(), config.map.resume, describer, config, session_name())
        for note in self._map.notes:
            self.get_logger().warning(note)
        self._pipeline = ImagePipeline(self, self._map, config, sender)
        self._report = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._report_timer = self.create_timer(1.0, self._diagnose)
        self._map_services = MapServices(self, self._map, self._pipeline, sender, self._groups)
        self._robots = OtherRobots(
            self, others, sender, describer.dim, self._map.add_foreign, self._map.foreign_counts, self._groups.quick
        )
        self.get_logger().info(
            f"model {describer.model_id}; map {self._map.live_path} with {self._map.size} keyframes; "
            f"session {self._map.session}; {_mode(config)}"
        )
        self._warn_of_nothing_to_recognise(config)

    def _describer(self) -> Describer:
        try:
            describer = load_describer(self.config.model, self.get_logger().info, self._stop)
        except ImportError as error:  # PyTorch, which only compiling and eager need
            raise MissingDependencyError(str(error.name), f"pip install {error.name}") from error
        self._backend = describer.backend
        return describer

    def _map_path(self) -> Path:
        if self.config.map_path:
            return Path(self.config.map_path).expanduser().absolute()
        home = Path(os.environ.get("ROS_HOME") or "~/.ros").expanduser()
        return home.joinpath("tscm", *self.get_namespace().strip("/").split("/"), "map.tscm")

    def _reconfigure(self, config: Config) -> None:
        if self._map is not None and self._pipeline is not None:
            if config.mode != self._pipeline.config.mode:
                self.get_logger().info(_mode(config))
                self._warn_of_nothing_to_recognise(config)
            self._map.reconfigure(config)
            self._pipeline.config = config

    def _warn_of_nothing_to_recognise(self, config: Config) -> None:
        if config.mode == "localization" and self._map is not None and not self._map.size:
            self.get_logger().warning(
                f"mode localization on an empty map recognises nothing of its own: is map_path right "
                f"({self._map.map_path})? Call load_map, or set mode to mapping"
            )

    def _diagnose(self) -> None:
        live_map, pipeline = self._map, self._pipeline
        if live_map is None or pipeline is None:
            return
        worker = pipeline.worker
        now = Snapshot(
            topic=pipeline.topic,
            silence_limit_s=self.config.input.silence_s,
            active=worker is not None,
            received=worker.received if worker else 0,
            dropped=worker.dropped if worker else 0,
            dropped_share=worker.dropped_share() if worker else 0.0,
            refused=pipeline.refused,
            last_refusal=pipeline.last_refusal,
            refuses_s=pipeline.refuses_s,
            map_path=str(live_map.live_path),
            map_size=live_map.size,
            session=live_map.session,
            mode=self.config.mode,
            fault=live_map.fault,
            fullness=live_map.fullness,
            robots=self._robots.texts() if self._robots else {},
            robots_problem=self._robots.problem() if self._robots else "",
            companions=pipeline.companions.texts(),
            model_id=live_map.describer.model_id,
            backend=self._backend,
        )
        message = diagnose(self, now, pipeline.inputs, pipeline.stages)
        self._report.publish(message)
        for status in message.status:
            self._say(status)

    def _say(self, status: DiagnosticStatus) -> None:
        """Log what is wrong, each part and level at most every 30 s: rclpy throttles lines of code, not messages."""
        part, now = (status.name.partition(": ")[2], status.level), time.monotonic()
        if status.level == status.OK or now < self._silent_until.get(part, 0.0):
            return
        self._silent_until[part] = now + _LOG_PERIOD_S
        if status.level == status.ERROR:
            self.get_logger().error(f"{part[0]}: {status.message}")
        else:
            self.get_logger().warning(f"{part[0]}: {status.message}")


def _mode(config: Config) -> str:
    return f"mode {config.mode}" + (" (nothing is added to the map)" if config.mode == "localization" else "")
