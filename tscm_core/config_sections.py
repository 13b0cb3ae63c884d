"""The settings by section: name, default, range, meaning. Each stands here once and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Value = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Limits:
    """What a setting may be. ``live`` settings may change while the node runs; the others need a restart."""

    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False


def setting(default: Value, description: str, **limits: Any) -> Any:
    """A field of a section, with what :class:`Limits` says of it."""
    return field(default=default, metadata={"limits": Limits(description, **limits)})


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The network that makes descriptors."""

    weights: str = setting(
        "",
        "Network file (.safetensors); empty: the student of this package; imagenet: a baseline not trained on places.",
    )
    backend: str = setting(
        "auto",
        "What runs the network; auto: the fastest that works here, named in the log. One that is asked for and cannot "
        "run is an error.",
        choices=("auto", "tensorrt", "onnxruntime", "inductor", "eager"),
    )
    device: str = setting(
        "auto", "auto: the GPU if a backend can use it, else the CPU.", choices=("auto", "cpu", "cuda")
    )
    precision: str = setting(
        "auto",
        "Of the network's arithmetic; auto: fp16 on a GPU, fp32 on a CPU. int8 has its own descriptors, and so maps.",
        choices=("auto", "fp32", "fp16", "int8"),
    )
    engine_cache: str = setting(
        "", "Folder in which compiled networks are kept; empty: tscm/engines in the user's cache folder."
    )
    workspace_mb: int = setting(
        1024, "GPU memory that TensorRT may use while it compiles, in MiB.", minimum=16, maximum=65536
    )
    threads: int = setting(
        1, "Processor threads of the network and all other work on an image; the rest is left to SLAM.",
        minimum=1, maximum=64,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class KeyframeConfig:
    """Which frames are worth remembering and searching for. A value of 0 switches that gate off."""

    min_distance_m: float = setting(
        0.5,
        "Metres to travel before the next keyframe; needs odometry.",
        minimum=0.0,
        maximum=100.0,
        live=True,
    )
    min_angle_deg: float = setting(
        15.0, "Degrees to turn before the next keyframe, however short the way; needs odometry.",
        minimum=0.0, maximum=180.0, live=True,
    )  # fmt: skip
    min_interval_s: float = setting(0.2, "Seconds between keyframes, at least.", minimum=0.0, maximum=3600.0, live=True)
    min_novelty: float = setting(
        0.05, "Without odometry: how much the descriptor must change, as 1 - similarity to the last keyframe.",
        minimum=0.0, maximum=1.0, live=True,
    )  # fmt: skip
    min_texture: float = setting(
        0.02, "Share of the image that must show structure; a blank wall says nothing about the place.",
        minimum=0.0, maximum=1.0, live=True,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RecencyConfig:
    """What was seen just now is not a loop: excluded inside the search, if any of the three rules says so."""

    keyframes: int = setting(
        10,
        "The last so many keyframes of this session are too recent.",
        minimum=0,
        maximum=1_000_000,
        live=True,
    )
    seconds: float = setting(
        10.0,
        "Keyframes of this session younger than this are too recent.",
        minimum=0.0,
        maximum=86400.0,
        live=True,
    )
    metres: float = setting(
        5.0, "Keyframes of this session less than this way back are too recent; needs odometry.",
        minimum=0.0, maximum=100_000.0, live=True,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CandidateConfig:
    """How similar keyframes become candidates for a loop."""

    min_similarity: float = setting(
        0.6, "Similarity that a place must reach; choose it with `tscm calibrate` on your own drives.",
        minimum=-1.0, maximum=1.0, live=True,
    )  # fmt: skip
    max_ratio: float = setting(
        0.95, "Similarity of the best other place divided by this one's must not exceed this, unless geometry decides "
        "between them; 1 switches the test off.",
        minimum=0.0, maximum=1.0, live=True,
    )  # fmt: skip
    sessions: str = setting(
        "all",
        "Which keyframes may be matched; within: those of this session alone; between: those of other sessions alone.",
        choices=("all", "within", "between"),
        live=True,
    )
    top_keyframes: int = setting(
        32, "Nearest keyframes to take from the index before they are merged into places.",
        minimum=1, maximum=1000, live=True,
    )  # fmt: skip
    top_places: int = setting(5, "Places to report for a frame.", minimum=1, maximum=100, live=True)
    place_keyframes: int = setting(
        5, "Keyframes of one session whose numbers differ by at most this are one place.",
        minimum=0, maximum=10_000, live=True,
    )  # fmt: skip
    place_radius_m: float = setting(
        5.0, "Keyframes whose poses in one frame are at most this far apart are one place; 0: poses are not used.",
        minimum=0.0, maximum=1000.0, live=True,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class GeometryConfig:
    """Whether two images show one rigid scene, by their local features."""

    enabled: bool = setting(True, "Verify the best places by local features and two-view geometry.", live=True)
    features: int = setting(
        600, "Local features to keep of a keyframe, at most; each takes 38 bytes in the map.",
        minimum=50, maximum=1200, live=True,
    )  # fmt: skip
    image_width: int = setting(
        640, "Width to which larger images are reduced before features are sought, in pixels.",
        minimum=160, maximum=4096, live=True,
    )  # fmt: skip
    places: int = setting(
        3, "How many of the most similar places to verify; bounds the time.", minimum=1, maximum=100, live=True
    )
    max_descriptor_ratio: float = setting(
        0.9, "Distance of a feature to its best match divided by that to the second best must not exceed this.",
        minimum=0.1, maximum=1.0, live=True,
    )  # fmt: skip
    max_error_px: float = setting(
        2.0, "How far a match may be from its epipolar line, in pixels of the reduced image.",
        minimum=0.1, maximum=50.0, live=True,
    )  # fmt: skip
    min_inliers: int = setting(
        20, "Matches that must agree with one rigid motion of the camera.", minimum=8, maximum=1200, live=True
    )
    max_ratio: float = setting(
        0.8, "Inliers of the best other place divided by this one's must not exceed this; 1 switches the test off.",
        minimum=0.0, maximum=1.0, live=True,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class OdometryConfig:
    """Whether odometry excludes a place: that of one drive, or those of two by the loops between them."""

    enabled: bool = setting(True, "Refuse places that odometry contradicts.", live=True)
    max_drift: float = setting(
        0.1, "How far odometry may be wrong, as a share of the way since the place was seen.",
        minimum=0.0, maximum=10.0, live=True,
    )  # fmt: skip
    reach_m: float = setting(
        5.0, "From how far away a place may be recognised, on top of the drift, where images do not say; 0: distance "
        "does not matter.",
        minimum=0.0, maximum=100_000.0, live=True,
    )  # fmt: skip
    max_turn_deg: float = setting(
        45.0, "How far odometry and the images may differ in how much the camera turned; 0: turns do not matter.",
        minimum=0.0, maximum=180.0, live=True,
    )  # fmt: skip
    min_loops: int = setting(
        5, "Of the last 30 keyframes with loops into another day's or another robot's drive, so many must contradict a "
        "place, and more than agree with it, to refuse it; 0: such loops are not compared.",
        minimum=0, maximum=30, live=True,
    )  # fmt: skip
    min_first_evidence: float = setting(
        2.0, "Until so many agree with it: what the keyframes in a row for a place of such a drive must weigh, as in "
        "temporal.min_evidence, unless it has temporal.certain_inliers.",
        minimum=0.0, maximum=20.0, live=True,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class TemporalConfig:
    """Whether the frames before support a place: it must have moved along with the robot, forwards or backwards."""

    enabled: bool = setting(True, "Ask for support by the frames before.", live=True)
    min_support: int = setting(
        4, "Keyframes, this one included, that must agree on a place.", minimum=1, maximum=20, live=True
    )
    certain_inliers: int = setting(
        100,
        "With so many inliers a place needs no support by the frames before.",
        minimum=8,
        maximum=100_000,
        live=True,
    )
    min_evidence: float = setting(
        0.0, "What the keyframes that agree must weigh together: each has the square of its similarity, and with fewer "
        "inliers than temporal.certain_inliers that share of it.",
        minimum=0.0, maximum=20.0, live=True,
    )  # fmt: skip
    max_gap: int = setting(1, "Keyframes in between that may fail to see the place.", minimum=0, maximum=20, live=True)
    max_difference_m: float = setting(
        1.2, "How far the way of the robot and the way of the place may differ, in metres; needs odometry.",
        minimum=0.0, maximum=1000.0, live=True,
    )  # fmt: skip
    max_difference: float = setting(
        0.4, "... and as a share of the way, on top of that.", minimum=0.0, maximum=10.0, live=True
    )
    max_stay_m: float = setting(
        1.5, "How far the robot may drive while the place stays where it is; 0: does not matter; needs odometry.",
        minimum=0.0, maximum=1000.0, live=True,
    )  # fmt: skip
    max_step: float = setting(
        3.0, "Without odometry: keyframes of the map that a place may move for each keyframe of the robot.",
        minimum=0.0, maximum=1000.0, live=True,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class MapConfig:
    """How the map is kept."""

    resume: bool = setting(
        True,
        "Go on with the map of the last run. If false, that map is kept as *.previous-<time>, and this one is empty.",
    )
    thumbnail_width: int = setting(160, "Width of the thumbnails in the map, in pixels.", minimum=16, maximum=1024)
    max_keyframes: int = setting(
        0, "Keyframes that the map may have; beyond, those go that are missed least, never one of a loop; 0: no bound.",
        minimum=0, maximum=100_000_000, live=True,
    )  # fmt: skip
    max_mb: int = setting(
        0, "MiB that the keyframes may take in the map file, held in the same way; 0: no bound.",
        minimum=0, maximum=100_000_000, live=True,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RobotsConfig:
    """Other robots, whose places are looked for too."""

    keyframe_topics: str = setting(
        "",
        "Topics on which other robots tell of their keyframes, separated by commas: /robot_a/tscm/keyframes. Their "
        "places are kept in memory, and matches come as candidates with the robot's name.",
    )
    max_keyframes: int = setting(
        5000, "Keyframes that are kept of each other robot, about 30 kB each; beyond, those go that are missed least.",
        minimum=1, maximum=10_000_000,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class InputConfig:
    """What the node listens to."""

    odometry_wait_s: float = setting(
        0.1, "How long an image waits for odometry newer than itself.", minimum=0.0, maximum=5.0, live=True
    )
    odometry_max_gap_s: float = setting(
        0.5,
        "Odometry further from the image stamp than this is not used.",
        minimum=0.0,
        maximum=60.0,
        live=True,
    )
    depth_max_gap_s: float = setting(
        0.05, "A depth image further from the image stamp than this is not used.", minimum=0.0, maximum=5.0, live=True
    )
    silence_s: float = setting(
        5.0, "Without an image for this long, diagnostics warn.", minimum=0.1, maximum=3600.0, live=True
    )
