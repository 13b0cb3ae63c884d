"""A replay as one page: what was found, what was not, and why. It needs no network and no other file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tscm_core.datasets.drive_source import DriveSource
from tscm_core.errors import TscmError
from tscm_core.evaluation import report_pairs
from tscm_core.evaluation.figures import curve_of
from tscm_core.evaluation.ground_truth import Score
from tscm_core.evaluation.replay import ReplayResult
from tscm_core.evaluation.report_curves import NamedCurve, curves_plot
from tscm_core.evaluation.report_facts import Drive, MapFacts, map_facts
from tscm_core.evaluation.report_pairs import PairOf
from tscm_core.evaluation.report_similarity import similarity_plot
from tscm_core.evaluation.report_style import SCRIPT, STYLE
from tscm_core.evaluation.report_svg import figure, tag, text
from tscm_core.evaluation.report_tables import facts_line, latency_plot, settings_table, table, tiles
from tscm_core.evaluation.report_timeline import timeline
from tscm_core.evaluation.report_trajectory import trajectory
from tscm_core.recognition.loop_detector import LoopDetector

_MOST_REFUSALS = 20
_NO_WRONG = "Not one accepted loop is wrong."
_NO_MISSED = "Not one revisit was missed."
_UNKNOWN = "There are no poses: nobody knows."


def write_report(
    result: ReplayResult, detector: LoopDetector, sources: Sequence[DriveSource], path: Path, *, title: str = ""
) -> None:
    """Write the page of :func:`report_page`, whole or not at all.

    Raises:
        TscmError: the page cannot be written, or a drive no longer gives the images that it gave.
    """
    page = report_page(result, detector, sources, title=title)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(page, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise TscmError(f"report {path} cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def report_page(
    result: ReplayResult, detector: LoopDetector, sources: Sequence[DriveSource], *, title: str = ""
) -> str:
    """The page as HTML. The same result gives the same, but for the latency in it.

    Args:
        result: what is reported.
        detector: which made the result; matches the images of the pairs that are shown.
        sources: the drives of the result, in its order, open: the images of these pairs are read again.
        title: heading; the names of the drives unless given.

    Raises:
        TscmError: a drive no longer gives the images that it gave.
    """
    title = title or "Replay of " + ", ".join(drive.label for drive in result.drives)
    maps, figures = _maps(result), result.to_json()
    body = [
        _head(result, figures, title),
        tag("div", _card("Precision and recall", curves_plot(_curves(result))),
            _card("Latency", latency_plot(figures["latency_ms"])), _class="two"),
        _ablation(result),
        *(_map_cards(result, facts, len(maps) > 1) for facts in maps),
        *_pair_cards(maps, detector, sources),
        _card("Settings", settings_table(result.config)),
        _refusals(result),
    ]  # fmt: skip
    said = tag("div", id="said", role="status", hidden="hidden")
    head = tag("meta", charset="utf-8")
    head += tag("meta", name="viewport", content="width=device-width, initial-scale=1")
    head += tag("title", text(title)) + f"<style>{STYLE}</style>"
    inside = tag("main", *body) + said + f"<script>{SCRIPT}</script>"
    return "<!DOCTYPE html>\n" + tag("html", tag("head", head), tag("body", inside), lang="en") + "\n"


def _maps(result: ReplayResult) -> list[MapFacts]:
    drives = iter([Drive(number, drive.label, drive.observations) for number, drive in enumerate(result.drives)])
    return [map_facts([next(drives) for _ in together], result.truth, result.true_poses) for together in result.maps]


def _card(name: str, *content: str) -> str:
    return tag("section", tag("h2", text(name)), *content, _class="card")


def _head(result: ReplayResult, figures: Mapping[str, Any], title: str) -> str:
    radius = f"within {result.truth.radius_m:g} m"
    if result.truth.max_yaw_deg < 180.0:
        radius += f" and {result.truth.max_yaw_deg:g}°"
    items = [
        ("frames", figures["frames"]),
        ("keyframes", figures["keyframes"]),
        ("refused images", figures["refused"]),
        ("keyframes without pose", figures["keyframes_without_pose"]),
        ("the same place", radius),
        ("odometry of the detector", figures["odometry"]),
        *((f"recall@{k}", figure(share)) for k, share in figures["recall_at"].items() if share is not None),
        ("stages", ", ".join(result.stages) or "none"),
        ("model", result.model_id),
        ("drives", ", ".join(str(drive.path) for drive in result.drives)),
    ]
    if len(result.drives) > 1:
        items.append(("map", "one for all drives" if result.one_map else "a new one for each drive; figures over all"))
    words = "" if result.score else tag("p", "No keyframe has a pose: what is right, wrong or missed is not known.")
    return tag("header", tag("h1", text(title)), facts_line(items), words, tiles(figures))


def _curves(result: ReplayResult) -> list[NamedCurve]:
    if not result.ablation:
        curve = curve_of(result.judged)
        return [NamedCurve("as the settings are", curve, _chosen(result.score))] if curve else []
    return [NamedCurve(row.variant, row.curve, _chosen(row.score)) for row in result.ablation if row.curve is not None]


def _chosen(score: Score | None) -> tuple[float, float] | None:
    """Recall and precision as configured; ``None`` if nothing was accepted."""
    if score is None or score.recall is None or score.precision is None:
        return None
    return score.recall, score.precision


def _ablation(result: ReplayResult) -> str:
    if not result.ablation:
        return ""
    head = ("stages", "recall at 100 %", "at 99 %", "area", "F1", "right", "wrong", "precision", "recall", "ms a frame")
    keys = ("recall_at_100_precision", "recall_at_99_precision", "auc", "f1")
    rows = []
    for row in result.ablation:
        found = row.to_json()
        shares = [figure(found[key]) for key in keys]
        counts = [found["correct"], found["wrong"], figure(found["precision"]), figure(found["recall"])]
        rows.append((row.variant, *shares, *counts, figure(found["mean_ms"], 1)))
    note = "Right, wrong, precision and recall are with the settings as they are; the others over all thresholds."
    return _card("With stages switched off and on", table(head, rows), tag("p", note, _class="note"))


def _map_cards(result: ReplayResult, facts: MapFacts, named: bool) -> str:
    of = f": {facts.label}" if named else ""
    seen = (
        _card("Trajectory" + of, trajectory(facts)),
        _card("Similarity of the keyframes" + of, similarity_plot(facts)),
    )
    return tag("div", *seen, _class="two") + _card("Timeline" + of, timeline(facts, result.config))


def _pair_cards(maps: Sequence[MapFacts], detector: LoopDetector, sources: Sequence[DriveSource]) -> list[str]:
    wrong, missed, refused = (report_pairs.collect(maps, field) for field in ("wrong", "missed", "refused"))
    wrong.sort(key=_evidence)
    missed.sort(key=lambda item: -item.pair.similarity)
    refused = [] if wrong else sorted(refused, key=_evidence)[: report_pairs.MOST_PICTURES]
    most = report_pairs.MOST_PICTURES
    frames = report_pairs.read_images([*wrong[:most], *missed[:most], *refused], sources)
    known = any(facts.judged for facts in maps)

    def card(name: str, pairs: Sequence[PairOf], verb: str, nothing: str = "") -> str:
        return _card(name, report_pairs.section(pairs, frames, detector, verb, nothing if known else _UNKNOWN))

    cards = [
        card(_named("Wrong loops", len(wrong), "surest"), wrong, "was taken for", _NO_WRONG),
        card(_named("Missed revisits", len(missed), "most similar"), missed, "was not recognised as", _NO_MISSED),
    ]
    if refused:
        name = "Wrong places that came nearest to being accepted" if known else "Refused places that came nearest"
        cards.append(card(name, refused, "was not taken for"))
    return cards


def _named(name: str, count: int, order: str) -> str:
    most = report_pairs.MOST_PICTURES
    return f"{name}: {count}" + (f", the {most} {order} as pictures" if count > most else "")


def _evidence(item: PairOf) -> tuple[int, int, float]:
    candidate = item.pair.candidate
    return (len(candidate.failed), -candidate.inliers, -item.pair.similarity) if candidate else (0, 0, 0.0)


def _refusals(result: ReplayResult) -> str:
    if not result.refusals:
        return ""
    rows = [tag("li", text(refusal.reason)) for refusal in result.refusals[:_MOST_REFUSALS]]
    rest = len(result.refusals) - len(rows)
    more = tag("p", f"and {rest} more") if rest else ""
    return _card(f"Images that could not be used: {len(result.refusals)}", tag("ul", *rows), more)
