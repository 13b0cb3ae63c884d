"""Remembered answers are those of the one who was asked first, and the work is done once."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from toys import ToyDescriber, frame, picture

from tscm_core.config import Config, GeometryConfig
from tscm_core.evaluation.remembering import Remembered, RememberingDescriber, RememberingMatcher, digest
from tscm_core.recognition.local_features import LocalFeatures
from tscm_core.recognition.records import Intrinsics
from tscm_core.recognition.two_view import TwoView

RULE = GeometryConfig()
OTHER = {
    "enabled": False,
    "places": 7,
    "min_inliers": 99,
    "max_ratio": 0.123,
    "features": 77,
    "image_width": 320,
    "max_descriptor_ratio": 0.5,
    "max_error_px": 9.0,
}


class Counting:
    """A describer and a matcher that count what they do."""

    def __init__(self):
        self.described, self.extracted, self.verified = [], 0, 0
        toy = ToyDescriber()
        self.dim, self.model_id, self.input_size, self._toy = toy.dim, toy.model_id, toy.input_size, toy

    def describe(self, images):
        self.described.append(len(images))
        return self._toy.describe(images)

    def extract(self, frame, rule):
        self.extracted += 1
        nothing = np.zeros((0, 2), np.float32), np.zeros((0, 32), np.uint8), np.zeros(0, np.float32)
        return LocalFeatures(*nothing, frame.image.shape[1], frame.image.shape[0], frame.intrinsics)

    def verify(self, query, match, rule):
        self.verified += 1
        return TwoView(np.zeros((0, 2), np.int64), np.zeros(0, np.bool_))


@pytest.fixture
def asked():
    return Counting()


def test_each_image_is_described_once_and_alone(asked):
    remembering = RememberingDescriber(asked)
    assert (remembering.dim, remembering.model_id, remembering.input_size) == (64, "toy", (32, 24))
    pictures = [picture(1), picture(2), picture(1)]
    rows = remembering.describe(pictures)
    again = remembering.describe([picture(2), picture(3)])
    assert asked.described == [1, 1, 1]
    assert np.array_equal(rows, ToyDescriber().describe(pictures))
    assert np.array_equal(again, ToyDescriber().describe([picture(2), picture(3)]))
    assert (again.dtype, again.flags.c_contiguous) == (np.float32, True)
    assert remembering.describe([]).shape == (0, 64)


def test_what_is_given_out_can_be_changed_without_harm(asked):
    remembering = RememberingDescriber(asked)
    remembering.describe([picture(1)])[:] = 0.0
    assert np.array_equal(remembering.describe([picture(1)]), ToyDescriber().describe([picture(1)]))


def test_one_changed_pixel_is_another_image(asked):
    changed = picture(1)
    changed[-1, -1, 2] ^= 1
    turned = np.ascontiguousarray(picture(1).reshape(32, 24, 3))
    remembering = RememberingDescriber(asked)
    for image in (picture(1), changed, turned, np.flipud(np.flipud(picture(1)))):
        remembering.describe([image])
    assert asked.described == [1, 1, 1]


def test_a_digest_stands_for_type_shape_and_values():
    values = np.arange(6, dtype=np.float32)
    same = np.repeat(values, 2)[::2]
    assert digest(values) == digest(same)
    others = [values.reshape(2, 3), values.astype(np.float64), values.view(np.int32), values + 1]
    assert len({digest(item) for item in (values, *others)}) == 5


def test_features_are_sought_once_for_all_that_they_depend_on(asked):
    remembering = RememberingMatcher(asked)
    seen = frame(1, 1)
    first = remembering.extract(seen, RULE)
    assert remembering.extract(frame(99, 1), RULE) is first  # the moment does not matter
    changes = [
        frame(1, 2),
        replace(seen, intrinsics=Intrinsics(32, 24, 30.0, 30.0, 16.0, 12.0)),
        replace(seen, depth=np.ones((24, 32), np.float32)),
        replace(seen, depth=np.full((24, 32), 2.0, np.float32)),
    ]
    assert len({id(remembering.extract(item, RULE)) for item in (seen, *changes)}) == 5
    assert asked.extracted == 5


@pytest.mark.parametrize("name", [item.name for item in fields(GeometryConfig)])
def test_another_setting_is_another_question_unless_it_only_judges(asked, name):
    """A setting that is new must be named here: does what is extracted or verified depend on it?"""
    changed = replace(RULE, **{name: OTHER[name]})
    assert changed != RULE
    remembering = RememberingMatcher(asked)
    a, b = remembering.extract(frame(1, 1), RULE), remembering.extract(frame(2, 2), RULE)
    remembering.extract(frame(1, 1), changed)
    assert asked.extracted == (3 if name in ("features", "image_width") else 2)
    remembering.verify(a, b, RULE)
    remembering.verify(a, b, changed)
    assert asked.verified == (1 if name in ("enabled", "places", "min_inliers", "max_ratio") else 2)


def test_pairs_are_verified_once_each_way(asked):
    remembering = RememberingMatcher(asked)
    a, b = (remembering.extract(frame(number, number), RULE) for number in (1, 2))
    first = remembering.verify(a, b, RULE)
    assert remembering.verify(a, b, RULE) is first
    remembering.verify(b, a, RULE)
    remembering.verify(a, replace(b), RULE)  # equal, but another object
    assert asked.verified == 3


def test_what_was_saved_is_what_it_cost(monkeypatch):
    clock = iter([1.0, 1.25, 2.0, 2.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    remembered = Remembered()
    assert remembered.answer("a", lambda: 7) == 7
    assert remembered.answer("b", lambda: 8) == 8
    assert remembered.saved_ms == 0.0
    assert [remembered.answer(asked, None) for asked in ("a", "b", "a")] == [7, 8, 7]
    assert remembered.saved_ms == 2 * 250.0 + 500.0


def test_an_error_is_not_remembered():
    remembered = Remembered()
    with pytest.raises(ZeroDivisionError):
        remembered.answer("a", lambda: 1 // 0)
    assert remembered.answer("a", lambda: 3) == 3


def test_the_settings_that_are_known_here_are_those_of_the_program():
    assert set(OTHER) == {item.name for item in fields(GeometryConfig)}
    assert Config().geometry == RULE
