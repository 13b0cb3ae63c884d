"""What benchmarks/soak.py takes for a leak and what for noise, on made-up series; its endless drive; its meter."""

from __future__ import annotations

import importlib
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tscm_core.datasets.bag_writer import CAMERA_INFO_TOPIC, IMAGE_TOPIC, ODOMETRY_TOPIC, DriveWriter
from tscm_core.datasets.image_messages import rgb_from_message
from tscm_core.datasets.synthetic_drive import CAMERA
from tscm_core.errors import BagError
from tscm_core.recognition.poses import pose_from_yaw

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
FRAMES, SAMPLES = 108_000, 720


def module(name):
    if str(BENCHMARKS) not in sys.path:
        sys.path.append(str(BENCHMARKS))
    return importlib.import_module(name)


drive, meter, series, verdict = map(module, ("soak_drive", "soak_meter", "soak_series", "soak_verdict"))
LIMITS = verdict.Limits(max_keyframes=2000)


def sample(frame, memory=300.0, handles=28, threads=19, size=2000, live=80.0, log=4.0):
    named = {"socket:": handles - 8, "map.tscm.live": 8}
    held = meter.Held(memory + 150.0, memory, 100.0, 50.0, memory + 20.0, named, {"python": threads})
    return series.Sample(frame, frame / 15, held, size, live, log, 90.0, {})


def record(of=lambda frame: {}, frames=FRAMES, samples=SAMPLES):
    """A run whose samples are ``sample(frame, **of(frame))``; latencies as they should be."""
    made = series.Record(series.Latencies(frames))
    made.samples = [sample(int(frame), **of(int(frame))) for frame in np.linspace(frames / samples, frames, samples)]
    return made


def noisy(seed, slope=0.0):
    """Memory as it is: noise that stays for a while, a saw's teeth with each lifecycle cycle, spikes; and a slope."""
    random = np.random.default_rng(seed)
    wander = iter(np.convolve(random.normal(0.0, 2.0, SAMPLES + 20), np.ones(20) / 20**0.5, "valid"))
    return lambda frame: {
        "memory": 300.0
        + next(wander)
        + 20.0 * (frame % 6000) / 6000
        + 200.0 * (random.random() < 0.02)
        + slope * frame / 10_000
    }


@pytest.mark.parametrize("seed", range(6))
def test_noise_is_no_leak_and_a_leak_is_seen_in_noise(seed):
    assert verdict.judge(record(noisy(seed)), LIMITS) == []
    (sentence,) = verdict.judge(record(noisy(seed, slope=4.0)), LIMITS)
    assert sentence.startswith("memory grows: ")
    assert verdict.memory_trend(record(noisy(seed, slope=4.0)).samples).slope == pytest.approx(4.0, abs=1.5)


def test_what_grows_before_the_second_half_is_warming_up():
    assert verdict.judge(record(lambda frame: {"memory": 200.0 + min(frame, 50_000) / 100}), LIMITS) == []


def test_what_the_keyframes_of_a_growing_map_take_is_no_leak():
    def growing(extra):
        def of(frame):
            size = frame // 4
            return {"memory": 200.0 + size * 7.2 / 1024 + extra * frame / 10_000, "size": size, "live": 0.04 * size}

        return of

    unbounded = verdict.Limits(max_keyframes=0)
    assert verdict.judge(record(growing(0.0)), unbounded) == []
    assert verdict.judge(record(growing(3.0)), unbounded)[0].startswith("memory grows: 3.00 MiB")
    assert verdict.judge(record(growing(0.0)), LIMITS) == ["the map has 27000 keyframes, and map.max_keyframes is 2000"]


def test_a_trend_is_the_line_of_least_squares():
    frames = np.arange(80.0) * 100.0
    values = np.sin(frames) + frames / 500.0
    blocks = [
        (part.mean() / 1e4, np.median(value))
        for part, value in zip(frames.reshape(8, 10), values.reshape(8, 10), strict=True)
    ]
    expected, covariance = np.polyfit(*zip(*blocks, strict=True), 1, cov=True)
    got = verdict.trend(frames, values)
    assert (got.slope, got.error) == pytest.approx((expected[0], covariance[0, 0] ** 0.5))


def test_a_run_too_short_to_tell_is_not_called_flat():
    (sentence,) = verdict.judge(record(samples=20), LIMITS)
    assert "too short" in sentence


@pytest.mark.parametrize("what", ["handle", "thread"])
def test_one_that_stays_is_seen_and_those_that_come_and_go_are_not(what):
    name, usual = f"{what}s", {"handle": 28, "thread": 19}[what]

    def of(stays_from):
        return lambda frame: {name: usual + 5 * (frame % 450 < 300) + (frame > stays_from)}

    assert verdict.judge(record(of(FRAMES)), LIMITS) == []
    assert verdict.judge(record(of(0.1 * FRAMES)), LIMITS) == []
    (sentence,) = verdict.judge(record(of(0.6 * FRAMES)), LIMITS)
    assert sentence.startswith(
        f"a {what} leaks: at least {usual} in the second quarter, at least {usual + 1} in the last"
    )
    assert sentence.endswith({"handle": "1 x socket:", "thread": "1 x python"}[what])


def latencies(last_p99):
    """Nine of ten images are cheap; of those looked up, two of a hundred are slow, in the last quarter ``last_p99``."""
    made = series.Latencies(FRAMES)
    for number in range(1, FRAMES + 1):
        looked_up = number % 10 == 0
        slow = last_p99 if number > 0.75 * FRAMES else 40.0
        made.add(number, (slow if number % 500 == 0 else 25.0) if looked_up else 0.5, 30.0, looked_up)
    return made


def test_images_that_become_slow_are_seen_by_kind():
    made = record()
    made.latencies = latencies(60.0)
    assert made.latencies.percentiles(0, FRAMES // 4) == {"passed over": (0.5, 0.5), "looked up": (25.0, 40.0)}
    assert verdict.judge(made, LIMITS) == []
    made.latencies = latencies(65.0)
    (sentence,) = verdict.judge(made, LIMITS)
    assert sentence == (
        "images that are looked up become slow: p99 was 40.0 ms in the second quarter and is 65.0 ms in the last"
    )


def test_an_image_lost_on_the_way_is_not_one_that_the_node_left_without_an_answer():
    made = record()
    made.images = series.Images(sent=1000, received=995, processed=990, dropped=5)
    assert (made.images.lost, made.images.unanswered) == (5, 0)
    assert verdict.judge(made, LIMITS) == []
    made.images = series.Images(sent=1000, received=980, processed=979)
    assert verdict.judge(made, LIMITS) == [
        "1 images that the node received were not answered for",
        "20 of 1000 images were lost on the way: DDS did not bring them to the node",
    ]
    made.images = series.Images(sent=10, received=10, processed=9, refused=1, last_refusal="no stamp")
    assert verdict.judge(made, LIMITS) == ["1 images were refused, the last because: no stamp"]


def test_one_failed_service_is_told_with_its_words():
    made = record()
    made.services = {"save_map": series.Asked()}
    for number in range(20):
        made.services["save_map"].answered(10.0 * number, "disk full" if number in (3, 7) else "")
    assert verdict.judge(made, LIMITS) == ["save_map failed 2 of 20 times, first: disk full"]
    assert (made.services["save_map"].total_ms, made.services["save_map"].most_ms) == (1900.0, 190.0)


def test_a_run_that_ended_early_or_was_complained_of_is_none_that_passed():
    made = record()
    made.end, made.complaints = "the node ended with exit code 1", ["[ERROR] a", "[ERROR] b"]
    assert verdict.judge(made, LIMITS) == [made.end, "the node logged 2 errors, the first: [ERROR] a"]
    made = record()
    made.looked, made.pictures = 3, 7
    assert verdict.judge(made, LIMITS) == ["somebody looked 3 times and saw 7 pictures and 0 markers"]


def test_files_that_outgrow_their_keyframes_are_seen():
    assert verdict.judge(record(lambda frame: {"live": 80.0 + 15.0 * frame / FRAMES}), LIMITS) == []
    (file,) = verdict.judge(record(lambda frame: {"live": 80.0 + 80.0 * frame / FRAMES}), LIMITS)
    assert file.startswith("the live map grows faster than its keyframes: 61.4 KiB")
    (log,) = verdict.judge(record(lambda frame: {"log": 4.0 + 20.0 * frame / FRAMES}), LIMITS)
    assert log == "the log of the live map grows: 14.0 MiB in the second quarter, 24.0 in the last"


def image(number):
    return np.full((6, 8, 3), number, np.uint8)


def bag(path, count, period_ns, first_ns=10**18):
    with DriveWriter(path) as writer:
        for number in range(count):
            stamp = first_ns + number * period_ns
            writer.odometry(stamp - 1000, pose_from_yaw(float(number), 0.0, 0.0))
            writer.camera_info(stamp, CAMERA)
            writer.image(stamp, image(number), "rgb8")
        writer.odometry(first_ns + count * period_ns, pose_from_yaw(0.0, 0.0, 0.0))
    return path


def test_the_drive_goes_on_with_the_same_images_and_later_stamps(tmp_path):
    from rosbags.typesys import Stores, get_typestore

    first, second = bag(tmp_path / "a", 3, 100_000_000), bag(tmp_path / "b", 2, 50_000_000, 2 * 10**18)
    shots = list(islice(drive.endless([drive.read_drive(first), drive.read_drive(second)]), 11))
    assert [shot.number for shot in shots] == list(range(1, 12))
    assert [shot.begins for shot in shots] == [True, False, False, True, False] * 2 + [True]
    steps = np.diff([shot.stamp_ns for shot in shots])
    across = [50_001_000, 50_000_000, 100_001_000]  # what comes first in a step is a microsecond older than its image
    assert steps.tolist() == [100_000_000] * 2 + across + [100_000_000] * 2 + across
    types = get_typestore(Stores.ROS2_JAZZY)
    for shot, number in zip(shots, [0, 1, 2, 0, 1, 0, 1, 2, 0, 1, 0], strict=True):
        (one, odometry), (two, info), (three, picture) = shot.messages
        assert (one, two, three) == (ODOMETRY_TOPIC, CAMERA_INFO_TOPIC, IMAGE_TOPIC)
        said = types.deserialize_cdr(odometry, "nav_msgs/msg/Odometry")
        assert said.pose.pose.position.x == number
        assert said.header.stamp.sec * 10**9 + said.header.stamp.nanosec == shot.stamp_ns - 1000
        seen = types.deserialize_cdr(picture, "sensor_msgs/msg/Image")
        assert seen.header.stamp.sec * 10**9 + seen.header.stamp.nanosec == shot.stamp_ns
        np.testing.assert_array_equal(rgb_from_message(seen), image(number))
        assert types.deserialize_cdr(info, "sensor_msgs/msg/CameraInfo").width == CAMERA.width


def test_a_bag_without_images_is_refused(tmp_path):
    with DriveWriter(tmp_path / "bag") as writer:
        writer.odometry(10**18, pose_from_yaw(0.0, 0.0, 0.0))
    with pytest.raises(BagError, match="raw images on 0 topics"):
        drive.read_drive(tmp_path / "bag")
    with pytest.raises(BagError):
        drive.read_drive(tmp_path / "none")


TAKES_MEMORY_A_HANDLE_AND_A_THREAD = """
import mmap, sys, threading
print("began", flush=True)
sys.stdin.readline()
block = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for page in range(0, len(block), mmap.PAGESIZE):
    block[page] = 1
file = open(sys.argv[1], "w")
threading.Thread(target=threading.Event().wait, daemon=True).start()
print("took", flush=True)
sys.stdin.readline()
"""


def test_the_meter_sees_memory_handles_and_threads_of_a_process(tmp_path):
    command = [sys.executable, "-c", TAKES_MEMORY_A_HANDLE_AND_A_THREAD, str(tmp_path / "left_open")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "began\n"
        before = meter.held_by(process.pid)
        print(file=process.stdin, flush=True)
        assert process.stdout.readline() == "took\n"
        after = meter.held_by(process.pid)
        alone = meter.anonymous_mib(process.pid)
        process.stdin.close()
    assert after.anonymous - before.anonymous == pytest.approx(64.0, abs=6.0)
    assert after.anonymous == pytest.approx(alone, abs=1.0)
    assert (before.handles.get("left_open"), after.handles["left_open"]) == (None, 1)
    assert sum(after.threads.values()) == sum(before.threads.values()) + 1
    assert after.resident == pytest.approx(after.anonymous + after.mapped + after.shared, abs=1.0)
