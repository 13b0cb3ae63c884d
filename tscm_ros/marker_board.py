"""What ``~/markers`` shows, as pieces of bounded size, so that what did not change need not be sent again."""

from __future__ import annotations

import bisect
import colorsys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from geometry_msgs.msg import Point, Vector3
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker

from tscm_core.recognition.place_memory import Place
from tscm_core.recognition.records import Loop, Pose

Position = tuple[float, float, float]

PIECE = 200
"""Points, steps or loops in one marker."""
_KEYFRAME_M, _PATH_M, _LOOP_M, _NEWEST_M = 0.25, 0.06, 0.05, 0.6
_GOLDEN = 0.618034
"""Steps of this size round the circle of colours keep the first few far apart, and any number different."""
_NEWEST = ColorRGBA(r=1.0, g=0.85, b=0.1, a=1.0)
_KINDS = {
    "keyframes": (Marker.SPHERE_LIST, _KEYFRAME_M, 1.0),
    "path": (Marker.LINE_STRIP, _PATH_M, 0.6),
    "loops": (Marker.LINE_LIST, _LOOP_M, 1.0),
}


@dataclass(slots=True)
class _Piece:
    namespace: str
    number: int
    session: str
    frame_id: str
    points: list[Position] = field(default_factory=list)
    changed: bool = True

    def marker(self, colour: ColorRGBA) -> Marker:
        kind, size, opacity = _KINDS[self.namespace]
        message = _marker(self.namespace, self.number, kind, self.frame_id, size)
        message.color = ColorRGBA(r=colour.r, g=colour.g, b=colour.b, a=opacity)
        message.points = list(map(_point, self.points))
        return message


class MarkerBoard:
    """Keyframes that have a pose as points and a path, loops between two of them as lines, the newest one in yellow.

    Colours tell sessions apart. A loop has the colour of the session that closed it.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        """``places`` may grow; :meth:`take_places` reads on from where it was."""
        self.places = places
        self._taken = 0
        self._pieces: dict[str, list[_Piece]] = {name: [] for name in _KINDS}
        self._loops: set[tuple[int, int]] = set()
        self._sessions: list[str] = []
        self._newest: list[Marker] = []
        self._newest_changed = False

    def take_places(self) -> None:
        """Draw the keyframes that came since the last call."""
        for place in self.places[self._taken : len(self.places)]:
            self._taken += 1
            if place.pose is not None:
                self._add_keyframe(place.session, place.pose)

    def take_loops(self, loops: Iterable[Loop]) -> None:
        """Draw loops whose two keyframes both have a pose, in one frame; one that is there already is left out."""
        for loop in loops:
            query, match = self._pose_of(loop.keyframe_id), loop.candidate.pose
            key = (loop.keyframe_id, loop.candidate.keyframe_id)
            if query is None or match is None or query[1].frame_id != match.frame_id or key in self._loops:
                continue
            self._loops.add(key)
            piece = self._piece("loops", query[0], match.frame_id, 2 * PIECE)
            piece.points += (query[1].position, match.position)
            piece.changed = True

    def show_newest(self, loop: Loop) -> None:
        """Highlight the place that was recognised last, and the line to it."""
        query = self._pose_of(loop.keyframe_id)
        self._newest = _highlight(query[1] if query else None, loop.candidate.pose)
        self._newest_changed = True

    @property
    def is_sent(self) -> bool:
        """Whether :meth:`changes` has given everything."""
        return not any(piece.changed for piece in self._all())

    def send_all_again(self) -> None:
        """Somebody may have seen nothing yet."""
        for piece in self._all():
            piece.changed = True
        self._newest_changed = True

    def changes(self, most: int) -> list[Marker]:
        """The markers that have not been given yet in their present state, ``most`` of them at a time."""
        markers = list(self._newest) if self._newest_changed else []
        self._newest_changed = False
        for piece in self._all():
            if len(markers) >= most:
                break
            if piece.changed:
                markers.append(piece.marker(self._colour(piece.session)))
                piece.changed = False
        return markers

    def _all(self) -> Iterator[_Piece]:
        for pieces in self._pieces.values():
            yield from pieces

    def _add_keyframe(self, session: str, pose: Pose) -> None:
        for namespace in ("keyframes", "path"):
            piece = self._piece(namespace, session, pose.frame_id, PIECE)
            piece.points.append(pose.position)
            piece.changed = True

    def _piece(self, namespace: str, session: str, frame_id: str, most: int) -> _Piece:
        """The piece to add to: the last one, or a new one if that is full or of another session or frame."""
        pieces = self._pieces[namespace]
        same = bool(pieces) and (pieces[-1].session, pieces[-1].frame_id) == (session, frame_id)
        if same and len(pieces[-1].points) < most:
            return pieces[-1]
        joint = pieces[-1].points[-1:] if same and namespace == "path" else []
        pieces.append(_Piece(namespace, len(pieces), session, frame_id, joint))
        return pieces[-1]

    def _pose_of(self, keyframe_id: int) -> tuple[str, Pose] | None:
        """Session and pose of a keyframe; ids ascend."""
        at = bisect.bisect_left(self.places, keyframe_id, key=lambda place: place.keyframe_id)
        if at == len(self.places) or self.places[at].keyframe_id != keyframe_id:
            return None
        pose = self.places[at].pose
        return None if pose is None else (self.places[at].session, pose)

    def _colour(self, session: str) -> ColorRGBA:
        if session not in self._sessions:
            self._sessions.append(session)
        red, green, blue = colorsys.hsv_to_rgb((0.55 + _GOLDEN * self._sessions.index(session)) % 1.0, 0.75, 0.9)
        return ColorRGBA(r=red, g=green, b=blue, a=1.0)


def clear_all() -> Marker:
    """Takes all markers of the topic away."""
    return Marker(action=Marker.DELETEALL)


def _highlight(query: Pose | None, match: Pose | None) -> list[Marker]:
    """A ball where the place was seen first and a line to it, or what takes away those of the loop before."""
    ball = _marker("newest", 0, Marker.SPHERE, match.frame_id if match else "", _NEWEST_M)
    line = _marker("newest", 1, Marker.LINE_LIST, match.frame_id if match else "", 3 * _LOOP_M)
    ball.color = line.color = _NEWEST
    if match is None:
        ball.action = Marker.DELETE
    else:
        ball.pose.position = _point(match.position)
        ball.scale.y = ball.scale.z = ball.scale.x
    if match is None or query is None or query.frame_id != match.frame_id:
        line.action = Marker.DELETE
    else:
        line.points = [_point(query.position), _point(match.position)]
    return [ball, line]


def _marker(namespace: str, number: int, kind: int, frame_id: str, size: float) -> Marker:
    """A marker without a stamp: it is to be drawn with the newest transform, however long ago it was made."""
    message = Marker(ns=namespace, id=number, type=kind, action=Marker.ADD)
    message.header.frame_id = frame_id
    message.pose.orientation.w = 1.0
    message.scale = Vector3(x=size, y=size, z=size) if kind == Marker.SPHERE_LIST else Vector3(x=size)
    return message


def _point(position: Position) -> Point:
    return Point(x=position[0], y=position[1], z=position[2])
