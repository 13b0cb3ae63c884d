"""Pictures of loops: none while nobody looks, none that holds up the worker, and none that ends the thread."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from ros_helpers import SECOND
from two_planes import view

from tscm_core.config import Config
from tscm_core.datasets.image_messages import to_rgb
from tscm_core.errors import MapFileError
from tscm_core.recognition.image import thumbnail_jpeg
from tscm_core.recognition.local_features import encode_features, extract
from tscm_core.recognition.records import Candidate, Frame, Keyframe, Observation, Status
from tscm_ros import match_images
from tscm_ros.match_images import MatchImages, caption
from tscm_ros.playback import wait_until

CONFIG = Config()
FIRST, AGAIN = view(1, (0.0, 0.0, 0.0), np.eye(3))[0], view(1, (0.2, 0.0, 0.1), np.eye(3))[0]
BEST = Candidate(7, "monday", SECOND, None, 0.9, 0.5, 1, Status.ACCEPTED, 3, 150, 120)


def seen(*, features=True, accepted=True):
    blob = encode_features(extract(Frame(2, AGAIN), CONFIG.geometry)) if features else None
    keyframe = Keyframe(8, "monday", 9 * SECOND, None, 0.0, np.ones(4, np.float32), b"", blob)
    best = BEST if accepted else Candidate(7, "monday", SECOND, None, 0.9, 0.5, 1, Status.NO_GEOMETRY)
    return Observation(9 * SECOND, "monday", best.status, "", 8, 7, keyframe, (best,))


class Stand:
    """A node with one publisher and a log, and a map with one keyframe."""

    def __init__(self):
        self.watchers, self.sent, self.lines = 1, [], []
        publisher = SimpleNamespace(get_subscription_count=lambda: self.watchers, publish=self.sent.append)
        logger = SimpleNamespace(warning=self._log, error=self._log)
        self.node = SimpleNamespace(
            create_publisher=lambda *_: publisher, destroy_publisher=lambda _: None, get_logger=lambda: logger
        )
        self.jpeg = thumbnail_jpeg(FIRST, 320)
        self.kept = extract(Frame(1, FIRST), CONFIG.geometry)
        self.pictures = MatchImages(self.node, self)

    def _log(self, line, **_):
        self.lines.append(line)

    def thumbnail(self, keyframe_id):
        assert keyframe_id == 7
        return self.jpeg

    def features(self, keyframe_id):
        assert keyframe_id == 7
        return self.kept

    def offer(self, observation):
        self.pictures.offer(AGAIN, observation, "camera", CONFIG)


@pytest.fixture
def stand():
    made = Stand()
    yield made
    made.pictures.destroy()


def picture_of(stand, observation):
    stand.offer(observation)
    wait_until(lambda: bool(stand.sent or stand.lines), 10.0, "a picture")
    assert not stand.lines
    message = stand.sent.pop()
    assert (message.header.stamp.sec, message.header.frame_id) == (9, "camera")
    return to_rgb(message)


def test_lines_join_the_same_points_of_image_and_thumbnail(stand):
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        draw = match_images.draw_matches
        patch.setattr(match_images, "draw_matches", lambda *given: drawn.append(given) or draw(*given))
        picture = picture_of(stand, seen())
    query, place, ours, theirs, inliers, text = drawn[0]
    assert (query.shape, place.shape, text) == (AGAIN.shape, (240, 320, 3), caption(BEST))
    assert inliers.sum() >= 100
    patches = [
        (cv2.getRectSubPix(query, (21, 21), a.tolist()), cv2.getRectSubPix(place, (11, 11), b.tolist()))
        for a, b in zip(ours[inliers], theirs[inliers], strict=True)
    ]
    same = [np.corrcoef(cv2.resize(a, (11, 11)).ravel(), b.ravel())[0, 1] for a, b in patches]
    assert np.median(same) > 0.7
    assert picture.shape[1] > 2 * AGAIN.shape[1]


def test_the_caption_tells_the_evidence():
    assert caption(BEST) == "keyframe 7 of monday: similarity 0.900, 120 of 150 matches agree, support 3"


def test_without_features_the_pair_is_shown_without_lines(stand):
    picture = picture_of(stand, seen(features=False))
    np.testing.assert_array_equal(picture[: AGAIN.shape[0], : AGAIN.shape[1]], AGAIN)


@pytest.mark.parametrize(("watchers", "accepted"), [(0, True), (1, False)])
def test_nothing_is_made_while_nobody_looks_nor_for_what_is_no_loop(stand, watchers, accepted):
    stand.watchers, stand.jpeg = watchers, "no jpeg: to touch it is an internal error"
    stand.offer(seen(accepted=accepted))
    stand.pictures.destroy()
    assert not stand.sent
    assert not stand.lines


def test_the_worker_does_not_wait_for_a_picture(stand):
    may_go, jpeg = threading.Event(), stand.jpeg
    stand.thumbnail = lambda _: jpeg if may_go.wait(10.0) else None
    for _ in range(3):
        stand.offer(seen(features=False))  # would stand still here
    may_go.set()
    wait_until(lambda: bool(stand.sent), 10.0, "a picture")


def test_what_goes_wrong_is_told_and_the_next_picture_is_made(stand):
    def gone(_):
        raise MapFileError("/maps/a", "cannot be read")

    def broken(_):
        raise ValueError("purple")

    for failing, line in ((gone, "match_image: map /maps/a: cannot be read"), (broken, "internal error")):
        stand.thumbnail = failing
        stand.offer(seen())
        wait_until(lambda: bool(stand.lines), 10.0, "a line in the log")
        assert line in stand.lines.pop()
    del stand.thumbnail
    assert picture_of(stand, seen()).size


def test_a_keyframe_that_is_no_longer_in_the_map_gives_no_picture(stand):
    stand.jpeg = None
    stand.offer(seen())
    stand.pictures.destroy()
    assert not stand.sent
    assert not stand.lines
