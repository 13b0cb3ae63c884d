"""Messages of ROS without ROS, and bags of them, for tests of what reads bags."""

from __future__ import annotations

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

SECOND = 1_000_000_000
TYPES = get_typestore(Stores.ROS2_JAZZY)
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
INFO, ODOMETRY, FIX = "sensor_msgs/msg/CameraInfo", "nav_msgs/msg/Odometry", "sensor_msgs/msg/NavSatFix"
STAMPED, WITH_COVARIANCE = "geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/PoseWithCovarianceStamped"
TF = "tf2_msgs/msg/TFMessage"


def write_messages(path, messages, plugin=StoragePlugin.MCAP):
    """A bag of (topic, type, stamp, message)."""
    with Writer(path, version=8, storage_plugin=plugin) as writer:
        connections = {}
        for topic, kind, stamp_ns, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=TYPES)
            if message is not None:
                writer.write(connections[topic], stamp_ns, TYPES.serialize_cdr(message, kind))
    return path


def make(kind, *fields):
    return TYPES.types[kind](*fields)


def header(stamp_ns, frame_id="front"):
    return make(
        "std_msgs/msg/Header", make("builtin_interfaces/msg/Time", stamp_ns // SECOND, stamp_ns % SECOND), frame_id
    )


def image_message(stamp_ns, pixels, encoding="rgb8", frame_id="front", big=False):
    """An image of whatever numbers ``pixels`` are of, little-endian unless told otherwise."""
    data = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder(">" if big else "<"))).reshape(-1)
    data = data.view(np.uint8)
    height, width = pixels.shape[:2]
    return make(IMAGE, header(stamp_ns, frame_id), height, width, encoding, int(big), data.size // height, data)


def compressed_message(stamp_ns, data, format_, frame_id="front"):
    return make(COMPRESSED, header(stamp_ns, frame_id), format_, np.frombuffer(data, np.uint8))


def pose_part(position, orientation):
    return make(
        "geometry_msgs/msg/Pose",
        make("geometry_msgs/msg/Point", *position),
        make("geometry_msgs/msg/Quaternion", *orientation),
    )


def odometry_message(position, orientation, stamp_ns=0, frame_id="odom"):
    zero = make("geometry_msgs/msg/Vector3", 0.0, 0.0, 0.0)
    twist = make("geometry_msgs/msg/TwistWithCovariance", make("geometry_msgs/msg/Twist", zero, zero), np.zeros(36))
    with_covariance = make("geometry_msgs/msg/PoseWithCovariance", pose_part(position, orientation), np.zeros(36))
    return make(ODOMETRY, header(stamp_ns, frame_id), "base_link", with_covariance, twist)


def stamped_message(position, orientation, stamp_ns=0, frame_id="map"):
    return make(STAMPED, header(stamp_ns, frame_id), pose_part(position, orientation))


def covariance_message(position, orientation, stamp_ns=0, frame_id="map"):
    inner = make("geometry_msgs/msg/PoseWithCovariance", pose_part(position, orientation), np.zeros(36))
    return make(WITH_COVARIANCE, header(stamp_ns, frame_id), inner)


def fix_message(stamp_ns, latitude, longitude, altitude=0.0, status=0):
    return make(
        FIX, header(stamp_ns, "gps"), make("sensor_msgs/msg/NavSatStatus", status, 1), latitude, longitude, altitude,
        np.zeros(9), 0,
    )  # fmt: skip


def tf_message(*links):
    """Of (stamp, parent, child, position, orientation)."""
    return make(
        TF,
        [
            make(
                "geometry_msgs/msg/TransformStamped", header(stamp_ns, parent), child,
                make(
                    "geometry_msgs/msg/Transform",
                    make("geometry_msgs/msg/Vector3", *position),
                    make("geometry_msgs/msg/Quaternion", *turn),
                ),
            )
            for stamp_ns, parent, child, position, turn in links
        ],
    )  # fmt: skip


def info_message(stamp_ns=0, k=None, d=(), model="plumb_bob", size=(640, 480), binning=(0, 0), roi=(0, 0, 0, 0)):
    """``roi`` is x, y, width, height; ``size`` and ``binning`` are across, down."""
    k = np.array(k if k is not None else (500.0, 0, 320.0, 0, 510.0, 240.0, 0, 0, 1), np.float64)
    x, y, width, height = roi
    return make(
        INFO, header(stamp_ns), size[1], size[0], model, np.array(d, np.float64), k, np.eye(3).reshape(-1),
        np.zeros(12), *binning, make("sensor_msgs/msg/RegionOfInterest", x, y, height, width, False),
    )  # fmt: skip
