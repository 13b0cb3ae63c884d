"""The bounds against the binomial formula, summed with whole numbers, and against what a bound is for."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tscm_core.evaluation.calibration_bound import lower_bound, tail, trials_needed, upper_bound

confidences = st.sampled_from([0.5, 0.9, 0.95, 0.99])
counts = st.integers(1, 120).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))

exhaustive = settings(deadline=None, max_examples=60)


def plain_tail(right, total, share):
    share = Fraction(share).limit_denominator(10**9)
    return float(sum(math.comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(right, total + 1)))


@exhaustive
@given(counts, st.integers(0, 1000))
def test_the_tail_is_the_sum_of_the_formula(count, thousandths):
    right, total, share = *count, thousandths / 1000
    assert tail(right, total, share) == pytest.approx(plain_tail(right, total, share), rel=1e-9, abs=1e-12)


@exhaustive
@given(counts, confidences)
def test_at_the_lower_bound_the_data_are_as_rare_as_the_confidence_says(count, confidence):
    right, total = count
    bound = lower_bound(right, total, confidence)
    assert 0.0 <= bound <= right / total
    if right:
        assert plain_tail(right, total, bound) == pytest.approx(1.0 - confidence, rel=1e-6)


@exhaustive
@given(counts, confidences)
def test_the_upper_bound_is_the_lower_bound_of_the_rest(count, confidence):
    hits, total = count
    bound = upper_bound(hits, total, confidence)
    assert hits / total <= bound <= 1.0
    if hits < total:
        at_most = 1.0 - plain_tail(hits + 1, total, bound)
        assert at_most == pytest.approx(1.0 - confidence, rel=1e-6)


@pytest.mark.parametrize("total", [1, 7, 40])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_bound_is_wrong_no_more_often_than_it_says(total, confidence):
    bounds = [lower_bound(right, total, confidence) for right in range(total + 1)]
    for share in (step / 50 for step in range(51)):
        chance = [math.comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(total + 1)]
        too_high = sum(each for each, bound in zip(chance, bounds, strict=True) if bound > share + 1e-12)
        assert too_high <= 1.0 - confidence + 1e-9


def test_nothing_is_known_of_no_trials():
    assert lower_bound(0, 0, 0.95) == 0.0
    assert upper_bound(0, 0, 0.95) == 1.0


def test_three_right_ones_support_little():
    assert lower_bound(3, 3, 0.95) == pytest.approx(0.05 ** (1 / 3))


def test_the_known_numbers_of_trials():
    assert trials_needed(0.99, 0.95) == 299
    assert trials_needed(0.99, 0.95, wrong=1) == 473
    assert trials_needed(0.9, 0.9) == 22


@exhaustive
@given(st.floats(0.3, 0.995), confidences, st.integers(0, 4))
def test_one_trial_fewer_is_not_enough(share, confidence, wrong):
    needed = trials_needed(share, confidence, wrong)
    assert lower_bound(needed - wrong, needed, confidence) >= share
    assert needed == wrong + 1 or lower_bound(needed - 1 - wrong, needed - 1, confidence) < share
