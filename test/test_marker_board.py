"""What the markers show: every keyframe that has a pose, every loop between two of them, and only what changed."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
from ros_helpers import SECOND
from visualization_msgs.msg import Marker

from tscm_core.recognition.place_memory import Place
from tscm_core.recognition.records import Candidate, Loop, Pose, Status
from tscm_ros import markers
from tscm_ros.marker_board import PIECE, MarkerBoard

MOST = 1000


def place(number, session="monday", frame_id="odom", posed=True):
    pose = Pose((float(number), 2.0 * number, 0.5), frame_id=frame_id) if posed else None
    return Place(number, session, number * SECOND, pose, 0.0)


def loop(query, match):
    candidate = Candidate(match.keyframe_id, match.session, match.stamp_ns, match.pose, 0.9, 0.5, 1, Status.ACCEPTED)
    return Loop(query.keyframe_id, candidate)


def board_of(places, loops=()):
    board = MarkerBoard(places)
    board.take_places()
    board.take_loops(loops)
    return board


def points(messages, namespace):
    return [(p.x, p.y, p.z) for item in messages if item.ns == namespace for p in item.points]


def test_keyframes_with_a_pose_are_points_and_a_path():
    places = [place(1), place(2, posed=False), place(3)]
    drawn = board_of(places).changes(MOST)
    positions = [places[0].pose.position, places[2].pose.position]
    assert points(drawn, "keyframes") == positions
    assert points(drawn, "path") == positions
    assert [(item.ns, item.type, item.header.frame_id) for item in drawn] == [
        ("keyframes", Marker.SPHERE_LIST, "odom"),
        ("path", Marker.LINE_STRIP, "odom"),
    ]
    assert all(item.pose.orientation.w == 1.0 and item.scale.x > 0.0 and item.color.a > 0.0 for item in drawn)


def test_a_map_without_poses_shows_nothing():
    places = [place(number, posed=False) for number in (1, 2)]
    assert board_of(places, [loop(places[1], places[0])]).changes(MOST) == []


def test_long_drives_are_cut_into_pieces_and_the_path_stays_whole():
    places = [place(number) for number in range(1, 2 * PIECE + 11)]
    drawn = board_of(places).changes(MOST)
    assert points(drawn, "keyframes") == [item.pose.position for item in places]
    strips = [item for item in drawn if item.ns == "path"]
    assert len(strips) > 1
    for before, after in itertools.pairwise(strips):
        assert before.points[-1] == after.points[0]
    steps = {(a.x, b.x) for item in strips for a, b in itertools.pairwise(item.points)}
    assert steps == {(float(number), number + 1.0) for number in range(1, len(places))}
    assert len({(item.ns, item.id) for item in drawn}) == len(drawn)


def test_sessions_and_frames_are_apart_and_sessions_have_colours():
    places = [place(1), place(2, "tuesday"), place(3, "tuesday", "map")]
    drawn = [item for item in board_of(places).changes(MOST) if item.ns == "keyframes"]
    assert [item.header.frame_id for item in drawn] == ["odom", "odom", "map"]
    first, second, third = ((item.color.r, item.color.g, item.color.b) for item in drawn)
    assert first != second == third


def test_a_loop_is_a_line_between_its_two_keyframes():
    places = [place(1), place(2, posed=False), place(3, frame_id="map"), place(4, "tuesday")]
    possible, same = loop(places[3], places[0]), loop(places[3], places[0])
    impossible = [loop(places[3], places[1]), loop(places[3], places[2]), loop(place(9), places[0])]
    drawn = board_of(places, [possible, same, *impossible]).changes(MOST)
    assert points(drawn, "loops") == [places[3].pose.position, places[0].pose.position]
    line = next(item for item in drawn if item.ns == "loops")
    own = next(item for item in drawn if item.ns == "keyframes" and item.points[0].x == 4.0)
    assert line.type == Marker.LINE_LIST
    assert (line.color.r, line.color.g, line.color.b) == (own.color.r, own.color.g, own.color.b)


def test_only_what_changed_is_given_again():
    places = [place(number) for number in range(1, PIECE + 2)]
    board = board_of(places)
    first = board.changes(MOST)
    assert board.changes(MOST) == []
    places.append(place(PIECE + 2))
    board.take_places()
    second = board.changes(MOST)
    assert 0 < len(second) < len(first)
    assert places[-1].pose.position in points(second, "keyframes")
    board.send_all_again()
    assert points(board.changes(MOST), "keyframes") == [item.pose.position for item in places]


def test_much_is_given_in_parts():
    board = board_of([place(number) for number in range(1, 3 * PIECE + 1)])
    parts = [board.changes(2) for _ in range(4)]
    assert [len(part) for part in parts[:2]] == [2, 2]
    assert board.is_sent
    assert len(points(itertools.chain(*parts), "keyframes")) == 3 * PIECE


def test_the_newest_loop_is_highlighted_and_the_one_before_is_not():
    places = [place(1), place(2), place(3, posed=False)]
    board = board_of(places)
    board.changes(MOST)
    board.show_newest(loop(places[1], places[0]))
    ball, line = board.changes(MOST)
    assert (ball.type, ball.action, ball.pose.position.x) == (Marker.SPHERE, Marker.ADD, 1.0)
    assert ball.scale.x == ball.scale.y == ball.scale.z > 0.0
    assert (line.action, [point.x for point in line.points]) == (Marker.ADD, [2.0, 1.0])
    board.show_newest(loop(places[1], places[2]))
    gone = board.changes(MOST)
    assert [(item.ns, item.id, item.action) for item in gone] == [
        (item.ns, item.id, Marker.DELETE) for item in (ball, line)
    ]


# --- when they are sent


class Graph:
    """Everything around the markers: a node with nothing but a publisher, and a map with only places and loops."""

    def __init__(self):
        self.watchers, self.sent, self.places, self.closed = 0, [], [place(1)], []
        publisher = SimpleNamespace(
            get_subscription_count=lambda: self.watchers, publish=lambda message: self.sent.append(message.markers)
        )
        node = SimpleNamespace(create_publisher=lambda *_: publisher, create_timer=self._timer)
        self.markers = markers.Markers(node, self)

    def _timer(self, period_s, tick):
        assert period_s >= 0.5
        self.tick = tick

    def loops(self):
        return tuple(self.closed)

    def drive(self, item, *loops):
        self.places.append(item)
        self.closed += loops
        self.markers.add(SimpleNamespace(loops=loops))

    def take(self):
        self.tick()
        sent, self.sent[:] = list(itertools.chain(*self.sent)), []
        return sent


@pytest.fixture
def graph():
    return Graph()


def test_nothing_is_made_while_nobody_looks(graph):
    graph.drive(place(2))
    assert graph.take() == []
    graph.watchers = 1
    assert len(points(graph.take(), "keyframes")) == 2
    graph.drive(place(3))
    graph.watchers = 0
    assert graph.take() == []


def test_one_who_comes_late_gets_everything(graph):
    graph.drive(place(2), loop(place(2), place(1)))
    graph.watchers = 1
    first = graph.take()
    assert first[0].action == Marker.DELETEALL
    assert len(points(first, "loops")) == 2
    assert {item.ns for item in first[1:]} == {"keyframes", "path", "loops", "newest"}
    assert graph.take() == []
    graph.drive(place(3), loop(place(3), place(1)))
    assert len(points(graph.take(), "loops")) == 4
    graph.watchers = 2
    again = graph.take()
    assert Marker.DELETEALL not in {item.action for item in again}
    assert (len(points(again, "keyframes")), len(points(again, "loops"))) == (3, 4)
    assert graph.take() == []


def test_everything_is_sent_once_more_after_a_while(graph, monkeypatch):
    graph.watchers = 1
    graph.take()
    monkeypatch.setattr(markers, "AGAIN_S", 0.0)
    assert len(points(graph.take(), "keyframes")) == 1


def test_another_map_takes_the_old_markers_away(graph):
    graph.drive(place(2), loop(place(2), place(1)))
    graph.watchers = 1
    graph.take()
    graph.places, graph.closed = [], []
    gone = graph.take()
    assert [item.action for item in gone] == [Marker.DELETEALL]
    graph.places.append(place(1))
    assert {item.ns for item in graph.take()} == {"keyframes", "path"}
