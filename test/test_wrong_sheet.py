"""The sheet of wrong predictions: which stand on it, in which order, and that their pixels are there."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from toys import ToyDescriber, direction

from tscm_core.datasets.positions import Position
from tscm_core.errors import TscmError
from tscm_core.evaluation import wrong_sheet
from tscm_core.evaluation.recall import evaluate_folders
from tscm_core.evaluation.trial import LocatedImages
from tscm_core.evaluation.wrong_sheet import MOST_ROWS, write_wrong_sheet, wrong_predictions

RED, GREEN = (215, 48, 39), (26, 152, 80)


def folder_of(folder, pictures, yaw=None):
    """Plain pictures whose first pixel says what they look like; ``pictures``: name to (place, change, x)."""
    folder.mkdir()
    positions = []
    for name, (place, change, x) in pictures.items():
        image = np.full((48, 64, 3), (40, 60 + 10 * place, 200), np.uint8)
        image[0, 0] = place, 0, change
        cv2.imwrite(str(folder / name), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        positions.append(Position(name, x, 0.0, yaw))
    return LocatedImages(tuple(folder / name for name in pictures), tuple(positions))


@pytest.fixture
def images(tmp_path):
    database = {"a.png": (1, 0, 0.0), "b.png": (2, 0, 10.0), "c.png": (3, 0, 20.0), "d.png": (3, 90, 22.0)}
    queries = {
        "right.png": (1, 5, 1.0),
        "wrong.png": (1, 30, 18.5),  # looks like a, stands between c and d, nearer to c
        "surer.png": (1, 10, 10.5),  # looks like a, stands at b
        "nowhere.png": (2, 0, 500.0),
    }
    return folder_of(tmp_path / "database", database), folder_of(tmp_path / "queries", queries)


@pytest.fixture
def evaluation(images):
    return evaluate_folders(*images, ToyDescriber(), 4.0)


def test_wrong_ones_come_most_similar_first(evaluation):
    surer, wrong = wrong_predictions(evaluation)
    assert (surer.query, surer.predicted, surer.right) == (2, 0, 1)
    assert (wrong.query, wrong.predicted, wrong.right) == (1, 0, 2)
    assert surer.similarity == pytest.approx(float(direction(1) @ direction(1, 10)), abs=1e-6)
    assert surer.similarity > wrong.similarity
    assert (surer.distance, surer.right_distance) == (10.5, 0.5)
    assert (wrong.distance, wrong.right_distance) == (18.5, 1.5)
    order = [int(row) for row in evaluation.result.top[1, :4]]
    assert wrong.right_rank == 1 + min(order.index(2), order.index(3))


def test_the_sheet_shows_the_three_pictures_of_each_row(evaluation, tmp_path):
    path = tmp_path / "wrong.png"
    assert write_wrong_sheet(evaluation, path) == 2
    assert [found.name for found in tmp_path.glob("wrong*")] == ["wrong.png"]
    sheet = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    assert sheet.shape == (76 + 2 * (50 + 270 + 12), 12 + 3 * 372, 3)
    for row, greens in enumerate(([70, 70, 80], [70, 70, 90])):  # 60 + 10 * place: query, predicted, right
        across = sheet[76 + row * 332 + 50 + 135]
        assert [int(across[12 + column * 372 + 180, 1]) for column in range(3)] == greens
        edges = [tuple(map(int, across[12 + column * 372 + 1])) for column in range(3)]
        assert edges[1:] == [RED, GREEN]
    assert (sheet[:76] < 128).any()
    assert (sheet[76:126, 12 + 372 :] < 128).any()


def test_labels_name_files_similarity_distance_and_radius(evaluation, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(wrong_sheet, "_text", lambda picture, text, *rest: written.append(text))
    write_wrong_sheet(evaluation, tmp_path / "wrong.png")
    similarity = wrong_predictions(evaluation)[0].similarity
    for text in ("surer.png", "a.png", "b.png", f"similarity {similarity:.3f}, 10.5 m away", "0.5 m away"):
        assert text in written
    assert "2 of 3 queries are wrong at rank 1; right is within 4 m" in written


def test_no_more_than_twenty_rows(tmp_path, monkeypatch):
    database = folder_of(tmp_path / "database", {"a.png": (1, 0, 0.0), "b.png": (2, 0, 10.0)})
    queries = folder_of(tmp_path / "queries", {f"{n:02}.png": (1, n, 10.0) for n in range(MOST_ROWS + 5)})
    evaluation = evaluate_folders(database, queries, ToyDescriber(), 1.0)
    written = []
    monkeypatch.setattr(wrong_sheet, "_text", lambda picture, text, *rest: written.append(text))
    assert write_wrong_sheet(evaluation, tmp_path / "wrong.png") == MOST_ROWS + 5
    shown = [text for text in written if text in {path.name for path in queries.images}]
    assert shown == [f"{n:02}.png" for n in range(MOST_ROWS)]  # less changed is more similar
    assert any("the 20 most similar" in text for text in written)


def test_a_sheet_without_wrong_ones_is_a_header(images, tmp_path):
    evaluation = evaluate_folders(images[0], images[0], ToyDescriber(), 4.0)
    assert wrong_predictions(evaluation) == []
    assert write_wrong_sheet(evaluation, tmp_path / "wrong.png") == 0
    assert cv2.imread(str(tmp_path / "wrong.png")).shape[0] == 76


def test_wrong_by_heading_alone_says_so(tmp_path, monkeypatch):
    database = folder_of(tmp_path / "database", {"a.png": (1, 0, 0.0), "b.png": (2, 0, 0.5)}, 0.0)
    turned = dataclasses.replace(database.positions[0], yaw_deg=-170.0)
    database = dataclasses.replace(database, positions=(turned, database.positions[1]))
    queries = folder_of(tmp_path / "queries", {"q.png": (1, 5, 0.0)}, 20.0)
    evaluation = evaluate_folders(database, queries, ToyDescriber(), 4.0, 45.0)
    (wrong,) = wrong_predictions(evaluation)
    assert (wrong.predicted, wrong.right, wrong.turned_deg) == (0, 1, 170.0)
    written = []
    monkeypatch.setattr(wrong_sheet, "_text", lambda picture, text, *rest: written.append(text))
    write_wrong_sheet(evaluation, tmp_path / "wrong.png")
    assert f"similarity {wrong.similarity:.3f}, 0.0 m away, turned 170 deg" in written


def test_an_excluded_image_is_not_shown_as_the_right_one(images):
    """Its own file is nearest, and no answer."""
    evaluation = evaluate_folders(images[0], images[0], ToyDescriber(), 10.0)
    for wrong in wrong_predictions(evaluation):
        assert wrong.right != wrong.query
        assert wrong.right_distance > 0


def test_long_names_lose_their_middle_and_pictures_keep_their_shape(images, tmp_path, monkeypatch):
    name = "0123456789" * 12 + "_straße.png"
    database, _ = images
    queries = folder_of(tmp_path / "long", {name: (1, 30, 20.0)})
    tall = np.full((400, 10, 3), 77, np.uint8)
    tall[0, 0] = 30, 0, 1  # BGR
    cv2.imwrite(str(queries.images[0]), tall)
    drawn = []
    put = cv2.putText
    monkeypatch.setattr(cv2, "putText", lambda picture, text, *rest: (drawn.append(text), put(picture, text, *rest))[1])
    write_wrong_sheet(evaluate_folders(database, queries, ToyDescriber(), 4.0), tmp_path / "wrong.png")
    (shown,) = [text for text in drawn if text.startswith("0123")]
    assert "..." in shown
    assert shown.endswith("stra?e.png")
    assert cv2.getTextSize(shown, cv2.FONT_HERSHEY_SIMPLEX, 0.55, 1)[0][0] <= 360
    sheet = cv2.imread(str(tmp_path / "wrong.png"))
    filled = (sheet[76 + 50 + 135, 12 : 12 + 360] == 77).all(axis=1).sum()
    assert filled == round(10 * 264 / 400)


def test_a_sheet_that_cannot_be_written_leaves_what_was_there(evaluation, tmp_path):
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(TscmError, match=r"picture .*taken.png cannot be written"):
        write_wrong_sheet(evaluation, tmp_path / "taken.png")
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(TscmError, match="cannot be written"):
        write_wrong_sheet(evaluation, tmp_path / "absent" / "wrong.png")
