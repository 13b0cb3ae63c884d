"""The choice of thresholds on evidence made up so that the right answer is known."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tscm_core.evaluation.calibration import Goal, calibrate, choose, hold_out
from tscm_core.evaluation.calibration_bound import lower_bound
from tscm_core.evaluation.calibration_evidence import DRIVE_GAP, Evidence, Pair, Setting, episodes, merge
from tscm_core.evaluation.calibration_figures import Choice

LAX, FIRM, STRICT = Setting(12, 1, 60), Setting(20, 3, 60), Setting(40, 3, 120)


def right(query, similarity):
    return Pair(query, similarity, True, False)


def wrong(query, similarity):
    return Pair(query, similarity, False, True)


def evidence(pairs, revisits, strangers=()):
    return Evidence({setting: tuple(of) for setting, of in pairs.items()}, frozenset(revisits), frozenset(strangers))


def known_answer(count=400):
    """Each revisit is an episode. Lax lets wrong ones in up to 0.8, firm none, strict is deaf."""
    numbers = [10 * n for n in range(count)]
    similarities = np.linspace(0.6, 0.95, count)
    all_right = [right(number, value) for number, value in zip(numbers, similarities, strict=True)]
    strangers = [10 * count + 10 * n for n in range(50)]
    wrongs = [wrong(number, 0.55 + 0.005 * n) for n, number in enumerate(strangers)]
    pairs = {LAX: [*all_right, *wrongs], FIRM: all_right[4:], STRICT: all_right[300:]}
    return evidence(pairs, numbers, strangers)


def test_the_setting_that_finds_most_without_a_wrong_one_is_chosen():
    found = calibrate(known_answer(), Goal(0.99, 0.95))
    assert found.refusal == ""
    assert found.best.setting == FIRM
    assert (found.best.right, found.best.wrong, found.best.recall) == (396, 0, 0.99)
    assert found.best.min_similarity == 0.6
    assert found.best.bound(0.95) == pytest.approx(0.05 ** (1 / 396))
    assert (found.best.false_alarms, found.best.strangers, found.best.stranger_episodes) == (0, 50, 50)
    assert found.best in found.around


def test_a_lower_goal_may_accept_wrong_ones():
    best = choose(Choice(known_answer()), Goal(0.85, 0.9))
    assert best.recall >= 0.99
    assert best.precision >= 0.85


def test_neighbours_are_one_trial():
    one_lap = evidence({FIRM: [right(number, 0.9) for number in range(43)]}, range(43))
    found = calibrate(one_lap, Goal(0.99, 0.95))
    assert found.best.episodes == 5
    assert found.refusal == (
        "43 accepted revisits in 5 episodes without a wrong one support a precision of 0.55 with 95 % confidence; 0.99 "
        "needs 299 independent episodes, about 2572 keyframes"
    )


def test_what_wrong_ones_cost_is_said():
    pairs = [right(10 * n, 0.9) for n in range(199)] + [wrong(1990, 0.9)]
    found = calibrate(evidence({FIRM: pairs}, range(0, 2000, 10)), Goal(0.99, 0.95))
    assert "200 accepted revisits in 200 episodes, 1 of them wrong, support" in found.refusal
    assert "0.99 needs 473 episodes with no more wrong ones, about 473 keyframes" in found.refusal


def test_thresholds_that_never_reach_the_precision_are_refused():
    pairs = [right(10 * n, 0.7) for n in range(50)] + [wrong(1000 + 10 * n, 0.9) for n in range(50)]
    found = calibrate(evidence({FIRM: pairs}, range(0, 500, 10)), Goal())
    assert found.refusal == (
        "no thresholds reach a precision of 0.99 in these drives: the best accept 50 right and 50 wrong places"
    )


def test_drives_without_a_revisit_are_refused():
    found = calibrate(evidence({FIRM: []}, ()), Goal())
    assert found.refusal.startswith("no keyframe sees a place again")
    assert found.best.precision is None


def test_revisits_of_which_none_passes_are_refused():
    found = calibrate(evidence({FIRM: [], STRICT: []}, range(7)), Goal())
    assert found.refusal.startswith("none of the 7 revisits is accepted")


def test_of_equal_recall_the_one_further_from_a_wrong_place_is_chosen():
    good = [right(10 * n, 0.9) for n in range(300)]
    near_wrong = [wrong(5000, 0.89)]
    pairs = {Setting(20, 3, 60): [*good, *near_wrong], Setting(30, 3, 90): [*good, wrong(5000, 0.7)]}
    best = choose(Choice(evidence(pairs, range(0, 3000, 10))), Goal(0.99, 0.95))
    assert best.setting == Setting(30, 3, 90)


def test_a_setting_next_to_one_that_lets_wrong_ones_in_has_no_margin():
    good = [right(10 * n, 0.9) for n in range(300)]
    line = {Setting(value, 3, 60): list(good) for value in (12, 20, 30, 40)}
    line[Setting(12, 3, 60)].append(wrong(5000, 0.95))
    choice = Choice(evidence(line, range(0, 3000, 10)))
    margins = {value: choice.margin(choice.figures(Setting(value, 3, 60), 0.9)) for value in (20, 30, 40)}
    assert margins == {20: 0.0, 30: 1.0, 40: 2.0}
    assert choose(choice, Goal()).setting.min_inliers == 40


def test_of_what_the_data_do_not_tell_apart_the_settings_in_use_are_kept():
    line = {Setting(value, 3, 60): [right(10 * n, 0.9) for n in range(300)] for value in (12, 20, 30, 40)}
    made_up = replace(evidence(line, range(0, 3000, 10)), in_use=Setting(20, 3, 60), min_similarity=0.6)
    best = choose(Choice(made_up), Goal())
    assert (best.setting, best.min_similarity) == (Setting(20, 3, 60), 0.6)


def test_a_map_where_the_thresholds_of_the_others_fail_is_told():
    fine = evidence({LAX: [right(10 * n, 0.9) for n in range(400)]}, range(0, 4000, 10))
    trap = evidence({LAX: [right(10 * n, 0.97) for n in range(100)] + [wrong(5000 + n, 0.92) for n in range(9)]},
                    range(0, 1000, 10))  # fmt: skip
    both = merge([fine, trap])
    held_out = hold_out(both, Goal(0.99, 0.95), 2)
    assert held_out.wrong == 9
    found = calibrate(both, Goal(0.9, 0.9), 2)
    assert found.refusal == ""
    found = calibrate(merge([fine, trap, fine]), Goal(0.98, 0.9), 3)
    assert found.held_out is not None
    assert found.held_out.wrong == 9


def test_a_choice_that_a_replay_disproves_gives_way_to_the_next():
    made_up = known_answer()

    def disprove_low_ones(figures):
        if figures.min_similarity < 0.62:
            return Choice(evidence({figures.setting: [wrong(0, 0.9)]}, [0])).figures(figures.setting, 0.5)
        return figures

    found = calibrate(made_up, Goal(0.98, 0.95), exact=disprove_low_ones)
    assert (found.best.setting, found.best.min_similarity) == (FIRM, 0.62)
    assert found.refusal == ""


def test_the_exact_figures_decide():
    def worse(figures):
        return Choice(evidence({FIRM: [wrong(0, 0.9)]}, [0])).figures(FIRM, figures.min_similarity)

    found = calibrate(known_answer(), Goal(0.99, 0.95), exact=worse)
    assert "no thresholds reach" in found.refusal


def test_maps_do_not_share_episodes():
    part = evidence({FIRM: [right(0, 0.9), right(3, 0.9)]}, [0, 3], [8])
    both = merge([part, part])
    assert len(both.pairs[FIRM]) == 4
    assert both.revisits == {0, 3, DRIVE_GAP, DRIVE_GAP + 3}
    assert Choice(both).figures(FIRM, 0.5).episodes == 2


def test_an_unlabelled_place_is_wrong_or_left_out_as_the_labels_say():
    pairs = [right(0, 0.9), Pair(20, 0.9, None, False), Pair(40, 0.9, None, True)]
    figures = Choice(evidence({FIRM: pairs}, [0])).figures(FIRM, 0.5)
    assert (figures.right, figures.wrong, figures.unlabelled, figures.episodes) == (1, 1, 2, 2)


@settings(deadline=None)
@given(st.lists(st.integers(0, 200), max_size=60))
def test_an_episode_is_shorter_than_its_length_and_begins_where_the_last_cannot_reach(queries):
    runs = episodes(queries)
    assert sorted(set(queries)) == list(itertools.chain.from_iterable(runs))
    assert all(run[-1] - run[0] < 10 for run in runs)
    assert all(later[0] - sooner[0] >= 10 for sooner, later in itertools.pairwise(runs))


labelled = st.tuples(st.integers(0, 300), st.integers(0, 20), st.sampled_from([True, False, None]))


@settings(deadline=None)
@given(st.lists(labelled, max_size=40), st.sets(st.integers(0, 300)), st.sets(st.integers(0, 300)), st.integers(0, 20))
def test_figures_are_those_of_a_plain_loop(items, revisits, strangers, threshold):
    pairs = [Pair(query, value / 20, label, label is False) for query, value, label in items]
    figures = Choice(evidence({FIRM: pairs}, revisits, strangers)).figures(FIRM, threshold / 20)
    taken = [pair for pair in pairs if pair.similarity >= threshold / 20]
    assert figures.right == sum(pair.right is True for pair in taken)
    assert figures.wrong == sum(pair.right is False for pair in taken)
    assert figures.unlabelled == sum(pair.right is None for pair in taken)
    assert figures.found == sum(any(pair.query == query and pair.right for pair in taken) for query in revisits)
    assert figures.false_alarms == sum(any(pair.query == query for pair in taken) for query in strangers)
    begins, last, bad = 0, None, 0
    for query in range(301):
        here = [pair.right for pair in taken if pair.query == query and pair.right is not None]
        if not here:
            continue
        if last is None or query - last >= 10:
            begins, last, counted = begins + 1, query, False
        if not all(here) and not counted:
            bad, counted = bad + 1, True
    assert (figures.episodes, figures.wrong_episodes) == (begins, bad)
    assert figures.bound(0.9) == lower_bound(begins - bad, begins, 0.9)
