"""Which keyframes a full map gives up: against a plain reference, and on drives."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from toys import DIM, LOOKS_ALONE, ToyDescriber, ToyMatcher, direction, frame, keyframe, unit, without_times

from tscm_core.config import Config, MapConfig
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.place_memory import PlaceMemory
from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.records import Candidate, Loop, Status
from tscm_core.recognition.thinning import METRES_AS_UNLIKE, Room, kept_bytes, make_room


def wandering(count, seed=0, first=1, session="a", step_m=1.0):
    """Keyframes of a drive of changing speed: each is like the one before, some more and some less."""
    rng = np.random.default_rng(seed)
    row, way, drive = unit(seed), 0.0, []
    for number in range(first, first + count):
        row = row + rng.uniform(0.05, 0.9) * unit((seed, number))
        row /= np.linalg.norm(row)
        row = row.astype(np.float16).astype(np.float32)
        pose = pose_from_yaw(way, 0.0, 0.0) if step_m else None
        drive.append(replace(keyframe(number, row, session, number, pose=pose), travelled_m=way))
        way += step_m * rng.uniform(0.1, 2.0)
    return drive


def plainly(drives, kept=()):
    """The same rule without heaps or links: the gap that each inner keyframe would leave, by id."""
    gaps = {}
    for drive in drives:
        for before, one, after in zip(drive, drive[1:], drive[2:], strict=False):
            metres = after.travelled_m - before.travelled_m if one.pose else 0.0
            gaps[one.id] = 1.0 - float(before.descriptor @ after.descriptor) + metres / METRES_AS_UNLIKE
    return {number: gap for number, gap in gaps.items() if number not in kept}


def assert_least(number, gaps):
    """Which of two gaps that are equal but for rounding is taken does not matter."""
    assert gaps[number] <= min(gaps.values()) + 1e-5


def remembering(*drives, loops=()):
    memory = PlaceMemory(DIM)
    for drive in drives:
        memory.add(drive)
    memory.add((), loops)
    return memory


def loop(keyframe_id, match_id):
    return Loop(keyframe_id, Candidate(match_id, "a", 0, None, 0.9, 0.0, 1, Status.ACCEPTED))


@pytest.mark.parametrize("step_m", [1.0, 0.0])
@pytest.mark.parametrize("seed", range(3))
def test_one_after_the_other_they_are_those_of_the_plain_rule(seed, step_m):
    """Two drives, loops, and enough dropped for the index to be moved together several times."""
    one = wandering(300, seed, step_m=step_m)
    two = wandering(200, seed + 10, first=301, session="b", step_m=step_m)
    loops = [loop(301 + 7 * n, 1 + 5 * n) for n in range(20)]
    of_loops = {number for item in loops for number in (item.keyframe_id, item.candidate.keyframe_id)}
    memory = remembering(one, two, loops=loops)
    for _ in range(430):
        (number,) = memory.least_missed(1)
        assert_least(number, plainly([one, two], of_loops))
        memory.drop([number])
        one, two = ([item for item in drive if item.id != number] for drive in (one, two))
    assert len(memory) == 70
    assert all(item.id in memory for item in (*one, *two))
    assert of_loops | {1, 300, 301, 500} <= {item.id for item in (*one, *two)}


def test_keyframes_that_come_later_are_weighed_too():
    drive = wandering(300, 5)
    memory, there = remembering(drive[:100]), list(drive[:100])
    for item in drive[100:]:
        (number,) = memory.least_missed(1)
        assert_least(number, plainly([there]))
        memory.drop([number])
        memory.add([item])
        there = [one for one in there if one.id != number] + [item]
    assert len(memory) == 100


def test_a_loop_that_closes_later_keeps_its_keyframes():
    drive = wandering(30, 2)
    memory = remembering(drive)
    (first,) = memory.least_missed(1)
    memory.add((), [loop(30, first)])
    assert first not in memory.least_missed(30)


def test_several_at_once_are_no_neighbours_and_more_is_not_promised():
    memory = remembering(wandering(41, 3))
    chosen = memory.least_missed(8)
    assert len(chosen) == 8
    assert min(b - a for a, b in itertools.pairwise(chosen)) > 1
    assert memory.least_missed(8) == chosen  # asking gives nothing up
    crept = [keyframe(number, direction(3, 4 * number), "a", number) for number in range(1, 20)]
    memory, fresh = remembering(crept), remembering(crept)
    chosen = memory.least_missed(9)
    for each in (memory, fresh):  # they close loops before they could be given up: now their neighbours may
        each.add((), [loop(19, number) for number in chosen])
    assert memory.least_missed(9) == fresh.least_missed(9) != ()
    assert remembering(wandering(2)).least_missed(5) == ()
    assert PlaceMemory(DIM).least_missed(5) == ()


def test_in_the_end_all_but_the_ends_can_be_given_up():
    drive = wandering(400, 6)
    memory = remembering(drive[:100])
    for item in drive[100:]:  # so often that what is out of date is swept away in between
        memory.add([item])
        memory.drop(memory.least_missed(1))
    while several := memory.least_missed(8):
        memory.drop(several)
    assert [item.id for item in drive if item.id in memory] == [1, 400]


def test_of_a_drive_that_loses_its_ends_the_next_ones_are_the_ends():
    """As in what other robots told, where the oldest goes if none else can."""
    drive = wandering(12, 7)
    memory = remembering(drive[:9])
    assert set(memory.least_missed(9)) <= set(range(2, 9))
    memory.drop([1])
    memory.drop([9])
    memory.add(drive[9:])
    there = drive[1:8] + drive[9:]
    for _ in range(8):
        (number,) = memory.least_missed(1)
        assert_least(number, plainly([there]))
        memory.drop([number])
        there = [one for one in there if one.id != number]
    assert [item.id for item in there] == [2, 12]


def test_what_was_dropped_is_found_no_more_and_all_else_as_before():
    drive = wandering(700, 4)
    memory = remembering(drive)
    for _ in range(400):
        memory.drop(memory.least_missed(1))
    left = [item for item in drive if item.id in memory]
    assert len(left) == len(memory) == 300
    assert memory.count(0, len(memory.places)) == 300
    fresh = remembering(left)
    for item in drive:
        hits = memory.index.search(item.descriptor, 5, len(memory.places))
        assert [memory.places[hit.position].keyframe_id for hit in hits] == [
            fresh.places[hit.position].keyframe_id for hit in fresh.index.search(item.descriptor, 5, 300)
        ]
    assert [memory.place_of(item.id).stamp_ns for item in left] == [item.stamp_ns for item in left]
    assert memory.file_bytes == sum(map(kept_bytes, left))
    assert memory.span(0, len(memory.places)) == (1, 700)


def test_the_drive_stays_even():
    """A robot that creeps for half of its way and then drives on: the crept half is thinned, the other hardly."""
    rows = [direction(3, 4 * n) for n in range(50)] + [unit(100 + n) for n in range(50)]
    drive = [keyframe(number, row, "a", number) for number, row in enumerate(rows, start=1)]
    memory = remembering(drive)
    for _ in range(45):
        memory.drop(memory.least_missed(1))
    left = [item.id for item in drive if item.id in memory]
    assert len([number for number in left if number > 51]) == 49


# ---------------------------------------------------------------------------------------------- room


def room(size, rule, is_known=False, found=99):
    item = keyframe(1, unit(1))
    return make_room(item, is_known, size, rule, lambda count: tuple(range(1, min(count, found) + 1)))


def test_there_is_room_until_the_bound_and_then_one_goes_for_one():
    rule = MapConfig(max_keyframes=100)
    assert room((99, 0), rule) == Room(True)
    assert room((100, 0), rule) == Room(True, (1,))
    assert room((100_000_000, 2**60), MapConfig()) == Room(True)


def test_a_place_that_a_full_map_has_is_not_remembered_again():
    full = room((100, 0), MapConfig(max_keyframes=100), is_known=True)
    assert full == Room(False, (), "the map is full (map.max_keyframes 100) and has this place")
    assert room((99, 0), MapConfig(max_keyframes=100), is_known=True) == Room(True)


def test_a_map_that_needs_all_its_keyframes_takes_no_more():
    full = room((100, 0), MapConfig(max_keyframes=100), found=0)
    assert full == Room(False, (), "the map is full (map.max_keyframes 100) and needs every keyframe that it has")


def test_a_bound_that_was_lowered_is_reached_step_by_step():
    assert room((1000, 0), MapConfig(max_keyframes=100), is_known=True) == Room(True, (1, 2, 3, 4, 5, 6, 7, 8))
    assert room((102, 0), MapConfig(max_keyframes=100)) == Room(True, (1, 2, 3))


def test_bytes_are_bounded_as_keyframes_are():
    mib = 1 << 20
    own = kept_bytes(keyframe(1, unit(1)))
    rule = MapConfig(max_mb=10)
    assert room((100, 10 * mib - own), rule) == Room(True)
    assert room((100, 10 * mib - own + 1), rule) == Room(True, (1,))
    assert room((100, 11 * mib), rule).thinned == (1, 2, 3, 4, 5, 6, 7, 8)
    assert "map.max_mb 10" in room((100, 10 * mib), rule, is_known=True).reason


def test_a_known_place_is_not_remembered_however_much_larger_its_image_is_than_the_others():
    """Room for it would cost two of them, but the map is within its bound as it is."""
    rule, item = MapConfig(max_mb=1), keyframe(1, unit(1))
    small = (1 << 20) // (kept_bytes(item) // 2)
    assert make_room(item, False, (small, 1 << 20), rule, lambda count: tuple(range(count))).thinned == (0, 1)
    known = make_room(item, True, (small, 1 << 20), rule, lambda count: tuple(range(count)))
    assert known == Room(False, (), "the map is full (map.max_mb 1) and has this place")
    assert room((100, (1 << 20) + 1), rule, is_known=True).remembered  # the bound was lowered: it shrinks


def test_the_bound_that_is_reached_is_the_one_that_is_named():
    rule = MapConfig(max_keyframes=1000, max_mb=10)
    assert "(map.max_mb 10)" in room((100, 10 << 20), rule, is_known=True).reason
    assert "(map.max_keyframes 1000)" in room((1000, 0), rule, found=0).reason


# ---------------------------------------------------------------------------------------------- in the detector


def bounded(most, **changes):
    settings = LOOKS_ALONE | {"recency.keyframes": 5, "recency.seconds": 4.0, "map.max_keyframes": most}
    return LoopDetector(ToyDescriber(), Config().replace(settings | changes))


def test_the_map_never_has_more_than_its_bound_and_says_what_it_gave_up():
    running, given_up = bounded(20), []
    for number in range(100):
        seen = running.observe(frame(number, number))
        assert seen.keyframe.id == number + 1
        assert seen.map_size == len(running.memory) == min(number + 1, 20)
        assert len(seen.thinned) == (number >= 20)
        given_up += seen.thinned
    assert len(set(given_up)) == 80
    assert {1, 100}.isdisjoint(given_up)
    assert {item for item in range(1, 101) if item in running.memory} == set(range(1, 101)) - set(given_up)


def test_a_second_lap_of_a_full_map_closes_and_adds_nothing():
    running = bounded(30)
    first = [running.observe(frame(number, number)) for number in range(30)]
    second = [running.observe(frame(100 + number, number, 20)) for number in range(30)]
    assert {item.status for item in second} == {Status.ACCEPTED}
    assert [item.accepted[0].keyframe_id for item in second] == [item.keyframe.id for item in first]
    assert [item.keyframe for item in second] == [None] * 30
    assert {item.query.id for item in second} == {0}
    assert {item.map_size for item in second} == {30}
    assert second[0].reason.endswith("; not remembered: the map is full (map.max_keyframes 30) and has this place")
    new = running.observe(frame(200, 99))
    assert (new.keyframe.id, len(new.thinned), new.map_size) == (61, 1, 30)


def test_keyframes_of_loops_stay_and_a_map_of_nothing_else_takes_no_new_place():
    running = bounded(40)
    for number in range(40):
        running.observe(frame(number, number % 20, 20 * (number // 20)))
    full = running.observe(frame(100, 500))
    assert (full.status, full.keyframe, full.thinned) == (Status.LOW_SIMILARITY, None, ())
    assert full.no_room == "the map is full (map.max_keyframes 40) and needs every keyframe that it has"
    assert full.reason.endswith(f"; not remembered: {full.no_room}")
    assert running.observe(frame(101, 501)).keyframe is None  # and the gate has moved on to this one
    assert len(running.memory) == 40


@pytest.mark.parametrize("before", [220, 260])
def test_a_map_that_is_opened_again_goes_on_as_one_that_never_stopped(before):
    """Another number of dropped places stands among the others in each, and they are moved together at other times."""
    looks = {"recency.keyframes": 20, "recency.seconds": 0.0, "candidates.place_keyframes": 2}
    rng, there, loops = np.random.default_rng(before), {}, []
    one, other = bounded(60, **looks), bounded(60, **looks)
    for number in range(before):
        seen = one.observe(frame(number, int(rng.integers(0, 3000))))
        there = {key: item for key, item in there.items() if key not in seen.thinned}
        there |= {seen.keyframe.id: seen.keyframe} if seen.keyframe else {}
        loops += seen.loops
    other.restore(there.values(), loops, "tuesday")
    one.begin_session("tuesday")
    assert len(one.memory.places) > len(other.memory.places) == 60
    places = rng.integers(0, 3000, 400)
    for number in range(400):  # new places, and each third time one of those just before
        again = number % 3 == 0 and number > 45
        item = frame(number, int(places[number - rng.integers(5, 45) if again else number]), 20 * again)
        seen, same = one.observe(item), other.observe(item)
        assert without_times(seen) == without_times(same)
        assert seen.thinned == same.thinned


def test_features_of_what_was_given_up_leave_memory():
    matcher = ToyMatcher(lambda place, other: 0)
    running = LoopDetector(ToyDescriber(), bounded(10, **{"geometry.enabled": True}).config, matcher=matcher)
    given_up = [number for n in range(30) for number in running.observe(frame(n, n)).thinned]
    assert len(given_up) == 20
    assert {number for number in range(1, 31) if running.features_of(number) is None} == set(given_up)
