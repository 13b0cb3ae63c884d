"""Exported folders: what other programs read is what the map holds, and edges are right or not there."""

from __future__ import annotations

import csv
import math
import sqlite3
from dataclasses import replace

import cv2
import numpy as np
import pytest
from toys import textured, unit
from two_view_scenes import from_quaternion, rotation, small_turn

from tscm_core.datasets.drive_source import open_drive
from tscm_core.errors import DatasetError, MapFileError
from tscm_core.evaluation.trial import located_images
from tscm_core.maps.map_export import export
from tscm_core.maps.map_g2o import FORWARD, SAME, EdgeRule
from tscm_core.maps.map_store import MapStore
from tscm_core.recognition.image import thumbnail_jpeg
from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.precision import stored_precision
from tscm_core.recognition.records import Candidate, Keyframe, Loop, Pose, RelativePose, Status
from tscm_core.recognition.relative_pose import quaternion

DIM = 16
CAMERA = Pose((0.3, -0.1, 1.2), tuple(quaternion(rotation(-100, 3, -80)).tolist()), "base")
"""Ahead of the base, to its right, high up, and turned like an optical frame, though not quite."""


def keyframe(id_, session="monday", pose=None, **changes):
    picture = thumbnail_jpeg(textured(id_), 64)
    made = Keyframe(id_, session, 10**18 + id_, pose, 0.5 * id_, stored_precision(unit(id_, DIM)), picture, b"features")
    return replace(made, **changes)


def matrix(pose):
    made = np.eye(4)
    made[:3, :3], made[:3, 3] = from_quaternion(*pose.orientation), pose.position
    return made


def pose_of(made, frame_id="odom"):
    return Pose(tuple(made[:3, 3].tolist()), tuple(quaternion(made[:3, :3]).tolist()), frame_id)


def spread(seed):
    """A covariance that is far from diagonal."""
    mixed = np.random.default_rng(seed).normal(size=(6, 6)) * [0.1, 0.2, 0.05, 0.01, 0.02, 0.03]
    return mixed.T @ mixed + np.diag([1e-3] * 3 + [1e-5] * 3)


def relative(query, match, camera, seed=0, metric=True):
    """What the map would hold of two bases [4, 4] whose camera saw the same."""
    seen = pose_of(np.linalg.inv(match @ matrix(camera)) @ query @ matrix(camera))
    return RelativePose(seen.position, seen.orientation, metric, tuple(spread(seed).reshape(-1).tolist()))


def loop(id_, match, relative_pose=None, rank=1):
    found = Candidate(
        match.id, match.session, match.stamp_ns, match.pose, 0.9, 0.25, rank, Status.ACCEPTED, 3, 120, 80, relative_pose
    )
    return Loop(id_, found)


def save(path, keyframes, loops=()):
    """A saved map: loops come with the keyframes that closed them."""
    with MapStore.create(path.with_suffix(".live"), "toy", DIM) as store:
        for number, session in enumerate(dict.fromkeys(item.session for item in keyframes)):
            store.begin_session(session, number)
        for item in keyframes:
            store.add(item, [each for each in loops if each.keyframe_id == item.id])
        store.save_copy(path)
    for beside in path.parent.glob(f"{path.stem}.live*"):
        beside.unlink()
    return path


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def graph(folder, tag):
    lines = [line.split() for line in (folder / "loops.g2o").read_text().splitlines()]
    assert {line[0] for line in lines} <= {"VERTEX_SE3:QUAT", "EDGE_SE3:QUAT"}
    ids = 1 if tag.startswith("VERTEX") else 2
    return {tuple(map(int, line[1 : 1 + ids])): list(map(float, line[1 + ids :])) for line in lines if line[0] == tag}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def ring(tmp_path):
    """Twelve keyframes on a circle, ids with a gap; the last of another session, and one without a pose."""
    ids = [*range(1, 6), *range(96, 103)]
    made = [
        keyframe(id_, pose=pose_from_yaw(9.0 * math.cos(n / 2), 9.0 * math.sin(n / 2), n / 2))
        for n, id_ in enumerate(ids)
    ]
    made[3] = replace(made[3], pose=None)
    made[-1] = replace(made[-1], session='tuesday, "wet"')
    return save(tmp_path / "map.tscm", made, [loop(101, made[0])]), made


# ------------------------------------------------------------------------------------------- images and tables


def test_images_tables_and_descriptors_are_those_of_the_map(ring, tmp_path):
    path, made = ring
    before = path.read_bytes()
    done = export(path, tmp_path / "out")
    out = tmp_path / "out"
    assert names(out) == ["descriptors.npy", "images", "keyframes.csv", "loops.csv", "loops.g2o", "positions.csv"]
    images = sorted((out / "images").iterdir())
    assert [int(image.stem) for image in images] == [item.id for item in made]  # names sort like ids
    assert [image.read_bytes() for image in images] == [item.thumbnail_jpeg for item in made]
    rows, posed = table(out / "keyframes.csv"), table(out / "positions.csv")
    assert [(int(r["row"]), int(r["id"]), r["session"], int(r["stamp_ns"]), float(r["travelled_m"])) for r in rows] == [
        (n, item.id, item.session, item.stamp_ns, item.travelled_m) for n, item in enumerate(made)
    ]
    assert [row["image"] for row in rows] == [image.name for image in images]
    descriptors = np.load(out / "descriptors.npy")
    assert descriptors.dtype == np.float32
    assert np.array_equal(descriptors, np.stack([item.descriptor for item in made]))
    assert [int(row["row"]) for row in posed] == [0, 1, 2, *range(4, 12)]
    for row in posed:
        item = made[int(row["row"])]
        assert (row["image"], row["session"], int(row["stamp_ns"])) == (
            rows[int(row["row"])]["image"], item.session, item.stamp_ns,
        )  # fmt: skip
        assert (float(row["x"]), float(row["y"]), row["frame_id"]) == (*item.pose.position[:2], "odom")
        turn = math.radians(float(row["yaw"]))
        assert np.allclose(from_quaternion(*item.pose.orientation)[:2, 0], [math.cos(turn), math.sin(turn)])
    assert (done.keyframes, done.with_pose, done.images, done.sessions, done.frames) == (12, 11, 12, 2, ("odom",))
    assert any(note.startswith("1 of 12 keyframes have no pose") for note in done.notes)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["map.tscm", "out"]


def test_half_descriptors_are_the_bytes_of_the_map(ring, tmp_path):
    path, _ = ring
    export(path, tmp_path / "out", half=True)
    descriptors = np.load(tmp_path / "out" / "descriptors.npy")
    assert descriptors.dtype == np.float16
    with sqlite3.connect(path) as db:
        assert descriptors.tobytes() == b"".join(row[0] for row in db.execute("SELECT descriptor FROM keyframes"))


def test_replay_and_evaluate_read_the_folder(tmp_path):
    made = [keyframe(id_, pose=pose_from_yaw(id_, -2.0, 0.1 * id_)) for id_ in range(8, 14)]
    export(save(tmp_path / "map.tscm", made), tmp_path / "out")
    with open_drive(tmp_path / "out") as drive:
        frames = list(drive.frames())
    assert len(frames) == 6
    for frame, item in zip(frames, made, strict=True):
        image = cv2.imdecode(np.frombuffer(item.thumbnail_jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert np.array_equal(frame.image[..., ::-1], image)
        assert np.allclose(frame.pose.position, item.pose.position)
        assert np.allclose(frame.pose.orientation, item.pose.orientation)
    located = located_images(tmp_path / "out")
    assert [position.x for position in located.positions] == [item.pose.position[0] for item in made]


def test_a_map_without_odometry_has_no_positions_and_is_read_all_the_same(tmp_path):
    path = save(tmp_path / "map.tscm", [keyframe(id_) for id_ in (1, 2)], [loop(2, keyframe(1))])
    done = export(path, tmp_path / "out", EdgeRule(FORWARD, odometry=True))
    assert "positions.csv" not in names(tmp_path / "out")
    assert (tmp_path / "out" / "loops.g2o").read_text() == ""
    assert (done.with_pose, done.loops, done.loop_edges, done.odometry_edges) == (0, 1, 0, 0)
    with open_drive(tmp_path / "out") as drive:
        assert [frame.pose for frame in drive.frames()] == [None, None]


def test_an_empty_map_and_one_without_thumbnails(tmp_path):
    done = export(save(tmp_path / "empty.tscm", []), tmp_path / "empty")
    assert np.load(tmp_path / "empty" / "descriptors.npy").shape == (0, DIM)
    assert done.keyframes == 0
    done = export(save(tmp_path / "bare.tscm", [keyframe(1, thumbnail_jpeg=b"")]), tmp_path / "bare")
    assert names(tmp_path / "bare" / "images") == []
    assert "1 of 1 keyframes have no thumbnail" in done.notes


# ------------------------------------------------------------------------------------------------- the pose graph


@pytest.mark.parametrize("camera", [CAMERA, FORWARD, SAME], ids=["mounted", "forward", "same"])
def test_edges_are_between_bases_though_the_map_knows_cameras(tmp_path, camera):
    """Two bases anywhere in space; what the cameras saw of each other is made up from where they were."""
    first, second = np.eye(4), np.eye(4)
    first[:3, :3], first[:3, 3] = rotation(4, -7, 130), (3.0, 4.0, 0.5)
    second[:3, :3], second[:3, 3] = rotation(-3, 5, -20), (1.0, -2.0, 0.1)
    a, b = keyframe(1, pose=pose_of(first)), keyframe(7, pose=pose_of(second))
    path = save(tmp_path / "map.tscm", [a, b], [loop(7, a, relative(second, first, camera))])
    done = export(path, tmp_path / "out", EdgeRule(camera))
    assert (done.loops, done.loop_edges, done.odometry_edges) == (1, 1, 0)
    vertices = graph(tmp_path / "out", "VERTEX_SE3:QUAT")
    assert {ids: np.allclose(matrix(Pose(tuple(v[:3]), tuple(v[3:]))), m) for (ids, v), m in
            zip(vertices.items(), (first, second), strict=True)} == {(1,): True, (7,): True}  # fmt: skip
    ((ids, numbers),) = graph(tmp_path / "out", "EDGE_SE3:QUAT").items()
    assert ids == (1, 7)
    edge = matrix(Pose(tuple(numbers[:3]), tuple(numbers[3:7])))
    assert np.allclose(edge, np.linalg.inv(first) @ second)
    information = np.zeros((6, 6))
    information[np.triu_indices(6)] = numbers[7:]
    information += np.triu(information, 1).T
    expected = information_by_differences(relative(second, first, camera), camera)
    assert np.allclose(information, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def information_by_differences(seen, camera):
    """What small errors, as the map means them, become as the error that an optimiser would see."""
    x, turn, shift = matrix(camera), from_quaternion(*seen.orientation), np.array(seen.translation)
    moved = x @ matrix(Pose(seen.translation, seen.orientation)) @ np.linalg.inv(x)
    columns = []
    for number in range(6):
        small = np.zeros(6)
        small[number] = 1e-6
        wrong = np.eye(4)  # shifted along, and turned about, the axes of the matched camera
        wrong[:3, :3] = cv2.Rodrigues(small[3:])[0] @ turn
        wrong[:3, 3] = shift + small[:3]
        error = np.linalg.inv(moved) @ x @ wrong @ np.linalg.inv(x)
        columns.append(np.concatenate([error[:3, 3], small_turn(error[:3, :3])]) / 1e-6)
    slope = np.stack(columns, axis=1)
    return np.linalg.inv(slope @ np.array(seen.covariance).reshape(6, 6) @ slope.T)


def test_a_loop_that_cannot_be_an_edge_is_in_the_table_with_the_reason(tmp_path):
    poses = [np.eye(4) for _ in range(7)]
    for n, pose in enumerate(poses):
        pose[:3, 3] = n, 0, 0
    made = [keyframe(n + 1, pose=pose_of(pose)) for n, pose in enumerate(poses)]
    made[5] = replace(made[5], pose=None)
    made[6] = replace(made[6], pose=Pose((1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)))  # odometry without orientation
    good = relative(poses[2], poses[0], CAMERA)
    loops = [
        loop(2, made[0]),
        loop(3, made[0], good),
        loop(4, made[0], replace(good, metric_scale=False)),
        loop(5, made[0], replace(good, covariance=(0.0,) * 36)),
        loop(6, made[0], good),
        loop(7, made[0], good),
    ]
    path = save(tmp_path / "map.tscm", made, loops)
    reasons = ["no relative pose", "edge", "direction without scale", "covariance is not positive"]
    reasons += ["keyframe without pose"] * 2
    done = export(path, tmp_path / "out", EdgeRule(CAMERA))
    rows = table(tmp_path / "out" / "loops.csv")
    assert [row["graph"] for row in rows] == reasons
    assert list(graph(tmp_path / "out", "EDGE_SE3:QUAT")) == [(1, 3)]
    assert (done.loops, done.loop_edges, done.with_pose) == (6, 1, 5)
    assert len([note for note in done.notes if "loops.csv" in note]) == 4
    row = rows[1]
    assert [int(row[name]) for name in ("keyframe_id", "match_id", "rank", "temporal_support", "matches", "inliers")] \
        == [3, 1, 1, 3, 120, 80]  # fmt: skip
    assert (float(row["similarity"]), float(row["ratio"]), row["session"], row["match_session"]) == (
        0.9, 0.25, "monday", "monday",
    )  # fmt: skip
    assert (int(row["stamp_ns"]), int(row["match_stamp_ns"])) == (made[2].stamp_ns, made[0].stamp_ns)
    seen = tuple(float(row[name]) for name in ("tx", "ty", "tz", "qx", "qy", "qz", "qw"))
    assert seen == (*good.translation, *good.orientation)
    assert tuple(map(float, row["covariance"].split())) == good.covariance
    assert [row["metric_scale"] for row in rows] == ["", "1", "0", "1", "1", "1"]


def test_without_the_pose_of_the_camera_no_loop_is_an_edge(tmp_path):
    a, b = keyframe(1, pose=pose_of(np.eye(4))), keyframe(2, pose=pose_of(np.eye(4)))
    path = save(tmp_path / "map.tscm", [a, b], [loop(2, a, relative(np.eye(4), np.eye(4), CAMERA))])
    done = export(path, tmp_path / "out")
    assert graph(tmp_path / "out", "EDGE_SE3:QUAT") == {}
    assert table(tmp_path / "out" / "loops.csv")[0]["graph"] == "camera pose not given"
    assert any("--camera-pose" in note for note in done.notes)


def test_odometry_edges_join_neighbours_of_one_session_in_one_frame(ring, tmp_path):
    path, made = ring
    assert graph_of(path, tmp_path / "none", EdgeRule()) == {}
    edges = graph_of(path, tmp_path / "out", EdgeRule(odometry=True))
    by_id = {item.id: item for item in made}
    # 4 has no pose, and 102 is of another session
    assert list(edges) == [(1, 2), (2, 3), (5, 96), *((n, n + 1) for n in range(96, 101))]
    for (before, after), numbers in edges.items():
        moved = np.linalg.inv(matrix(by_id[before].pose)) @ matrix(by_id[after].pose)
        assert np.allclose(matrix(Pose(tuple(numbers[:3]), tuple(numbers[3:7]))), moved)
        assert numbers[7] == pytest.approx((0.01 + 0.05 * np.linalg.norm(moved[:3, 3])) ** -2)
        assert numbers[-1] == pytest.approx(math.radians(1) ** -2)


def graph_of(path, out, rule):
    export(path, out, rule)
    return graph(out, "EDGE_SE3:QUAT")


def test_frames_that_change_are_not_joined(tmp_path):
    made = [keyframe(n, pose=pose_from_yaw(n, 0, 0, f"odom{n // 3}")) for n in (1, 2, 3, 4)]
    edges = graph_of(save(tmp_path / "map.tscm", made), tmp_path / "out", EdgeRule(odometry=True))
    assert list(edges) == [(1, 2), (3, 4)]


# ------------------------------------------------------------------------------------- complete, or not there


def test_a_failure_leaves_nothing(ring, tmp_path):
    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    def full(done, total):
        raise OSError(28, "No space left on device")

    with pytest.raises(KeyboardInterrupt):
        export(ring[0], tmp_path / "out", progress=stop)
    with pytest.raises(DatasetError, match="out cannot be written: No space left on device"):
        export(ring[0], tmp_path / "out", progress=full)
    assert names(tmp_path) == ["map.tscm"]


def test_an_export_gives_way_to_a_complete_one_and_other_folders_to_none(ring, tmp_path):
    path, _ = ring
    out = tmp_path / "out"
    out.mkdir()  # an empty folder is as good as none
    export(path, out)
    with pytest.raises(DatasetError, match="out exists already: choose another name, or --overwrite"):
        export(path, out)
    older = (out / "descriptors.npy").read_bytes()

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(path, out, half=True, overwrite=True, progress=stop)
    assert (out / "descriptors.npy").read_bytes() == older
    export(path, out, half=True, overwrite=True)
    assert (out / "descriptors.npy").read_bytes() != older
    (out / "thesis.tex").write_text("all of it")
    with pytest.raises(DatasetError, match=r"holds other things than an export \(thesis.tex\)"):
        export(path, out, overwrite=True)
    assert names(tmp_path) == ["map.tscm", "out"]
    with pytest.raises(DatasetError, match="is a file"):
        export(path, path, overwrite=True)


def test_what_a_killed_export_left_is_removed(ring, tmp_path):
    (tmp_path / ".tscm-exporting-0011" / "images").mkdir(parents=True)
    (tmp_path / ".tscm-exporting-notes").write_text("a file is not ours")
    export(ring[0], tmp_path / "out")
    assert names(tmp_path) == [".tscm-exporting-notes", "map.tscm", "out"]


def test_a_map_that_cannot_be_trusted_is_not_exported(ring, tmp_path):
    path, made = ring
    data = bytearray(path.read_bytes())
    data[data.index(made[6].thumbnail_jpeg) + 30] ^= 4
    path.write_bytes(data)
    with pytest.raises(MapFileError, match="is damaged"):
        export(path, tmp_path / "out")
    assert names(tmp_path) == ["map.tscm"]
