"""Choose the thresholds that find the most loops at an asked precision, and say whether the data prove it.

The claim: with the asked confidence, at least the asked share of EPISODES accepted with these thresholds is right.
Episodes (see ``calibration_evidence``), not keyframes, are the trials of a one-sided Clopper-Pearson bound. Its limits:

- It speaks of places and light like those driven. Two corridors that look alike prove nothing about a third.
- The thresholds were chosen on the same data, which flatters them. Two things work against that: of settings whose
  recall is within ``NEAR_RECALL`` of the best, the one furthest from accepting another wrong place is taken, not the
  one that happens to fit; and where there are several maps, each is judged with the thresholds chosen on the others
  (:func:`hold_out`): if that misses the asked precision, the claim is refused.
- Episodes of one drive share camera, route and weather. More drives are worth more than longer ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tscm_core.evaluation.calibration_bound import trials_needed
from tscm_core.evaluation.calibration_evidence import Evidence, Setting, numbers_of
from tscm_core.evaluation.calibration_figures import Choice, Figures

NEAR_RECALL = 0.01
_MOST_REPLAYS = 12


@dataclass(frozen=True, slots=True)
class Goal:
    """Precision to reach, and the confidence with which the data must support it."""

    precision: float = 0.99
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Every map judged with the thresholds chosen on the others, added up."""

    right: int
    wrong: int

    @property
    def precision(self) -> float | None:
        """Right / accepted; ``None`` if nothing was accepted."""
        return self.right / (self.right + self.wrong) if self.right + self.wrong else None


@dataclass(frozen=True, slots=True)
class Calibration:
    """The choice, what it is worth, and what a little less and a little more would give."""

    goal: Goal
    best: Figures
    around: tuple[Figures, ...]
    held_out: HeldOut | None
    refusal: str
    """Why the goal is not proven, in one sentence; empty if it is."""


def calibrate(
    evidence: Evidence, goal: Goal, parts: int = 1, exact: Callable[[Figures], Figures] = lambda figures: figures
) -> Calibration:
    """The thresholds for ``goal``, and whether the evidence, of ``parts`` maps, supports it.

    ``exact`` gives the figures of a choice from a replay of its own: places that were accepted as one are merged in the
    search, so that figures read off another similarity may be a keyframe or two beside the truth.
    """
    choice, known = Choice(evidence), dict[tuple[Setting, float], Figures]()
    chosen = choose(choice, goal)
    while _key(chosen) not in known and len(known) < _MOST_REPLAYS:
        known[_key(chosen)] = exact(chosen)
        chosen = choose(choice, goal, known)
    best = known[_key(chosen)] if _key(chosen) in known else exact(chosen)
    around = tuple(known.get(_key(figures), figures) for figures in _around(choice, best))
    held_out = hold_out(evidence, goal, parts) if parts > 1 else None
    return Calibration(goal, best, around, held_out, refusal(best, held_out, goal))


def _key(figures: Figures) -> tuple[Setting, float]:
    return figures.setting, figures.min_similarity


def choose(choice: Choice, goal: Goal, known: Mapping[tuple[Setting, float], Figures] | None = None) -> Figures:
    """The best thresholds for ``goal``.

    Proven ones if there are any; else, of those that reach the precision in the data or come nearest to it, the ones
    with the fewest wrong episodes, which need the least further data. Of these, whose recall is within ``NEAR_RECALL``
    of the best, the largest margin; of equal ones, which the data do not tell apart, the nearest to the settings in
    use, then the higher recall. ``known`` are figures that are known exactly and count in place of those read off.
    """
    exact = known or {}
    tried = [exact.get(_key(figures), figures) for figures in choice.precise(goal.precision)]
    precise = [figures for figures in tried if (figures.precision or 0.0) >= goal.precision] or tried
    if not precise:
        return choice.figures(choice.evidence.in_use or min(choice.evidence.pairs), 1.0)
    proven = [figures for figures in precise if figures.bound(goal.confidence) >= goal.precision]
    fewest = min(figures.wrong_episodes for figures in precise)
    among = proven or [figures for figures in precise if figures.wrong_episodes == fewest]
    enough = max(figures.recall for figures in among) - NEAR_RECALL
    near = [figures for figures in among if figures.recall >= enough]
    return max(near, key=lambda figures: _merit(choice, figures))


def _merit(choice: Choice, figures: Figures) -> tuple[float, int, float, float]:
    steps, similarity = choice.nearness(figures)
    return choice.margin(figures), steps, figures.recall, similarity


def hold_out(evidence: Evidence, goal: Goal, parts: int) -> HeldOut:
    """Judge every map with the thresholds chosen on the other ones."""
    right = wrong = 0
    for part in range(parts):
        others = evidence.only(numbers_of(other) for other in range(parts) if other != part)
        chosen = choose(Choice(others), goal)
        judged = Choice(evidence.only([numbers_of(part)])).figures(chosen.setting, chosen.min_similarity)
        right, wrong = right + judged.right, wrong + judged.wrong
    return HeldOut(right, wrong)


def _around(choice: Choice, best: Figures) -> tuple[Figures, ...]:
    """The best choice between neighbours that are a bit more and a bit less strict, one threshold at a time."""
    setting, similarity = best.setting, best.min_similarity
    found = [choice.figures(setting, round(similarity + step, 3)) for step in (-0.1, -0.05, -0.02, 0.02, 0.05, 0.1)]
    places = sorted(choice.evidence.pairs)
    for axis in ("min_inliers", "min_support"):
        line = [one for one in places if _differs_only_in(axis, one, setting)]
        at = line.index(setting)
        found += [choice.figures(one, similarity) for one in line[max(0, at - 2) : at + 3] if one != setting]
    order = sorted([best, *found], key=lambda f: (f.setting.min_inliers, f.setting.min_support, f.min_similarity))
    return tuple(order)


def _differs_only_in(axis: str, one: Setting, other: Setting) -> bool:
    kept = "min_support" if axis == "min_inliers" else "min_inliers"
    return bool(getattr(one, kept) == getattr(other, kept))


def refusal(best: Figures, held_out: HeldOut | None, goal: Goal) -> str:
    """Why the data do not support ``goal``; empty if they do."""
    percent = f"{100 * goal.confidence:g} % confidence"
    if not best.revisits:
        return f"no keyframe sees a place again, so that nothing supports a precision of {goal.precision:g}"
    if not best.right + best.wrong:
        return f"none of the {best.revisits} revisits is accepted by any thresholds: look at them with tscm replay"
    if (best.precision or 0.0) < goal.precision:
        return (
            f"no thresholds reach a precision of {goal.precision:g} in these drives: the best accept {best.right} "
            f"right and {best.wrong} wrong places"
        )
    if best.bound(goal.confidence) < goal.precision:
        return _too_few(best, goal, percent)
    if held_out and held_out.precision is not None and held_out.precision < goal.precision:
        return (
            f"thresholds chosen on some of the drives do not hold on the others: {held_out.right} right and "
            f"{held_out.wrong} wrong places there are a precision of {held_out.precision:.3f}, not {goal.precision:g}; "
            f"give more drives"
        )
    return ""


def _too_few(best: Figures, goal: Goal, percent: str) -> str:
    needed = trials_needed(goal.precision, goal.confidence, best.wrong_episodes)
    keyframes = math.ceil(needed * (best.right + best.wrong) / best.episodes)
    supported = f"a precision of {best.bound(goal.confidence):.2f} with {percent}"
    accepted = f"{best.right + best.wrong} accepted revisits in {best.episodes} episodes"
    if best.wrong_episodes:
        return (
            f"{accepted}, {best.wrong_episodes} of them wrong, support {supported}; {goal.precision:g} needs {needed} "
            f"episodes with no more wrong ones, about {keyframes} keyframes"
        )
    return (
        f"{accepted} without a wrong one support {supported}; {goal.precision:g} needs {needed} independent episodes, "
        f"about {keyframes} keyframes"
    )
