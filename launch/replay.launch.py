"""Play a bag into the place recognition node.

Example: ros2 launch tscm_ros replay.launch.py bag:=drive_bag image:=/camera/image_raw odometry:=/odometry
"""

import tempfile
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import LaunchDescription

ARGUMENTS = (
    ("bag", None, "Bag to play."),
    ("rate", "1.0", "How many times faster than it was recorded."),
    ("delay", "8.0", "Seconds before the first message, for the node to load its network and be discovered."),
    ("image", "/camera/image_raw", "Topic of the camera's images."),
    ("camera_info", "/camera/camera_info", "Topic of the camera's intrinsics; need not exist."),
    ("odometry", "/odometry", "Topic of odometry; need not exist."),
    ("depth", "/camera/depth/image_rect_raw", "Topic of depth that is registered to the image; need not exist."),
    ("image_transport", "raw", "raw or compressed."),
    (
        "map_path",
        str(Path(tempfile.gettempdir()) / "tscm_replay" / "map.tscm"),
        "Map of the replay.",
    ),
    ("resume", "false", "Go on with the map of the last replay; false begins empty and sets that map aside."),
)


def generate_launch_description() -> LaunchDescription:
    """The node beside ``ros2 bag play``; when the bag ends, so does everything, with the map on disk."""
    folder = Path(get_package_share_directory("tscm_ros")) / "launch"
    passed = [name for name, _, _ in ARGUMENTS if name not in ("bag", "rate", "delay")]
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(folder / "place_recognition.launch.py")),
        launch_arguments=[(name, LaunchConfiguration(name)) for name in passed],
    )
    play = ["ros2", "bag", "play", LaunchConfiguration("bag")]
    player = ExecuteProcess(
        cmd=[*play, "--rate", LaunchConfiguration("rate"), "--delay", LaunchConfiguration("delay")],
        output="screen",
    )
    finished = RegisterEventHandler(
        OnProcessExit(target_action=player, on_exit=[EmitEvent(event=Shutdown(reason="the bag ended"))])
    )
    arguments = [DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in ARGUMENTS]
    return LaunchDescription([*arguments, node, player, finished])
