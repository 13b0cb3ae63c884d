"""The picture shows right and wrong loops in their colours."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tscm_core.errors import TscmError
from tscm_core.evaluation.picture import Drive, Pair, Scene, draw
from tscm_core.recognition.records import Pose


def scene(right=(), wrong=()):
    angles = np.linspace(0.0, 6.0, 40)
    poses = tuple(Pose((10.0 * np.cos(angle), 6.0 * np.sin(angle), 0.0)) for angle in angles)
    image, wide = np.full((48, 64, 3), 120, np.uint8), np.full((30, 90, 3), 60, np.uint8)
    drives = (Drive("first", tuple(range(20))), Drive("second", tuple(range(20, 40))))
    return Scene("title", poses, drives, right, wrong, (Pair(image, wide, "caption"),))


def pixels(path, colour):
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB).astype(int)
    return int((np.abs(image - colour).max(axis=2) < 12).sum())


@pytest.mark.parametrize(
    ("kind", "colour", "other"), [("right", "#1a9850", "#d73027"), ("wrong", "#d73027", "#1a9850")]
)
def test_loops_have_the_colour_of_their_verdict(tmp_path, kind, colour, other):
    def rgb(code):
        return [int(code[i : i + 2], 16) for i in (1, 3, 5)]

    draw(scene(), tmp_path / "none.png")
    draw(scene(**{kind: ((35, 3), (30, 8))}), tmp_path / "two.png")
    assert pixels(tmp_path / "two.png", rgb(colour)) > pixels(tmp_path / "none.png", rgb(colour)) + 200
    assert pixels(tmp_path / "two.png", rgb(other)) <= pixels(tmp_path / "none.png", rgb(other)) + 20


def test_a_picture_that_cannot_be_written_is_said_so(tmp_path):
    with pytest.raises(TscmError, match="cannot be written"):
        draw(scene(), tmp_path / "nowhere" / "picture.png")
