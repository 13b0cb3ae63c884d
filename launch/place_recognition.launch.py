"""Start the place recognition node.

Example: ros2 launch tscm_ros place_recognition.launch.py image:=/camera/image_raw odometry:=/odom
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription

SHARE = Path(get_package_share_directory("tscm_ros"))
PROFILE = str(SHARE / "config" / "fastdds_large_images.xml")

ARGUMENTS = (
    ("image", "/camera/image_raw", "Topic of the camera's images."),
    ("camera_info", "/camera/camera_info", "Topic of the camera's intrinsics; need not exist."),
    ("odometry", "/odom", "Topic of odometry; need not exist."),
    ("image_transport", "raw", "raw (sensor_msgs/Image) or compressed (sensor_msgs/CompressedImage)."),
    ("map_path", "", "Map file for save_map and load_map; empty: ~/.ros/tscm/<namespace>/map.tscm."),
    ("resume", "true", "Go on with the map of the last run; false begins empty and sets that map aside."),
    ("params_file", str(SHARE / "config" / "place_recognition.yaml"), "Settings of the node."),
    ("namespace", "", "Namespace of this robot; its topics are then /<namespace>/tscm/..."),
    ("log_level", "info", "debug, info, warn, error or fatal."),
)


def start_node(context: LaunchContext) -> list[Node]:
    """The node, with the arguments as they were given."""
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    if given["resume"].lower() not in ("true", "false"):
        raise RuntimeError(f"argument resume must be true or false, not {given['resume']!r}")
    overrides = {
        "image_transport": given["image_transport"],
        "map_path": given["map_path"],
        "map.resume": given["resume"].lower() == "true",
    }
    return [
        Node(
            package="tscm_ros",
            executable="place_recognition",
            name="tscm",
            namespace=given["namespace"],
            parameters=[given["params_file"], overrides],
            remappings=[(topic, given[topic]) for topic in ("image", "camera_info", "odometry")],
            arguments=["--ros-args", "--log-level", given["log_level"]],
            output="screen",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, set the Fast DDS profile for large images, start the node."""
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in ARGUMENTS),
            SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", PROFILE),  # Humble, Jazzy
            SetEnvironmentVariable("FASTDDS_DEFAULT_PROFILES_FILE", PROFILE),  # Kilted and later
            OpaqueFunction(function=start_node),
        ]
    )
