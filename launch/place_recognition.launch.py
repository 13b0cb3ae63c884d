"""Start the place recognition node.

Example: ros2 launch tscm_ros place_recognition.launch.py image:=/front/image_raw odometry:=/odom
"""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription

SHARE = Path(get_package_share_directory("tscm_ros"))
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")  # Humble and Jazzy; Kilted on
PROFILE = str(SHARE / "config" / "fastdds_large_images.xml")

ARGUMENTS = (
    ("image", "camera/image_raw", "Topic of the camera's images, below the namespace unless it begins with /."),
    ("camera_info", "camera/camera_info", "Topic of the camera's intrinsics; need not exist."),
    ("odometry", "odom", "Topic of odometry; need not exist."),
    ("depth", "camera/depth/image_rect_raw", "Topic of depth that is registered to the image; need not exist."),
    ("image_transport", "raw", "raw (sensor_msgs/Image) or compressed (sensor_msgs/CompressedImage)."),
    ("map_path", "", "Map file for save_map and load_map; empty: ~/.ros/tscm/<namespace>/map.tscm."),
    ("map_directory", "", "Folder that the paths given to services may not leave; empty: as in params_file."),
    ("resume", "true", "Go on with the map of the last run; false begins empty and sets that map aside."),
    ("mode", "", "mapping or localization (nothing is added to the map); empty: as in params_file."),
    ("keyframe_topics", "", "Other robots' keyframes, e.g. /robot_a/tscm/keyframes; empty: as in params_file."),
    ("autostart", "true", "Activate at once; false leaves that to a lifecycle manager."),
    (
        "params_file",
        str(SHARE / "config" / "place_recognition.yaml"),
        "Settings: keyframes.*, recency.*, candidates.*, geometry.*, temporal.*",
    ),
    ("namespace", "", "Namespace of this robot; its topics are then /<namespace>/tscm/..."),
    ("log_level", "info", "debug, info, warn, error or fatal."),
)


def start_node(context: LaunchContext) -> list[Node]:
    """The node, with the arguments as they were given."""
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    for name in ("resume", "autostart"):
        if given[name].lower() not in ("true", "false"):
            raise RuntimeError(f"argument {name} must be true or false, not {given[name]!r}")
    if not Path(given["params_file"]).is_file():
        raise RuntimeError(f"argument params_file: there is no file {given['params_file']}")
    overrides = {
        "image_transport": given["image_transport"],
        "map_path": given["map_path"],
        "map.resume": given["resume"].lower() == "true",
        "autostart": given["autostart"].lower() == "true",
    }
    given_or_not = {
        "map_directory": given["map_directory"],
        "mode": given["mode"],
        "robots.keyframe_topics": given["keyframe_topics"],
    }
    overrides |= {name: value for name, value in given_or_not.items() if value}
    return [
        Node(
            package="tscm_ros",
            executable="place_recognition",
            name="tscm",
            namespace=given["namespace"],
            parameters=[given["params_file"], overrides],
            remappings=[(topic, given[topic]) for topic in ("image", "camera_info", "odometry", "depth")],
            arguments=["--ros-args", "--log-level", given["log_level"]],
            output="screen",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, set the Fast DDS profile for large images unless another is set, start the node."""
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in ARGUMENTS),
            *(SetEnvironmentVariable(name, PROFILE) for name in PROFILE_VARIABLES if name not in os.environ),
            OpaqueFunction(function=start_node),
        ]
    )
