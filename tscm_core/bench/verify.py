"""``verify``: local features, the geometry of three places, and the pose relative to one."""

from __future__ import annotations

from itertools import cycle

from tscm_core.bench.measure import measure
from tscm_core.bench.pictures import views
from tscm_core.bench.records import Row, Section, sampled
from tscm_core.bench.request import Request, Say
from tscm_core.deploy.threads import limit_threads
from tscm_core.recognition.geometry import OrbMatcher

_VIEWS = 12


def run(request: Request, say: Say) -> Section:
    """Measure it on pictures that are made here, or on those of ``request.images``."""
    rule, matcher, seconds = request.config.geometry, OrbMatcher(), request.effort.verify_seconds
    limit_threads(request.config.model.threads)
    found = views(request.images, _VIEWS)
    say(f"{len(found)} views")
    queries = cycle(found)
    features = measure(lambda: matcher.extract(next(queries).query, rule), seconds, least=len(found))
    known = [(matcher.extract(item.query, rule), [matcher.extract(one, rule) for one in item.places]) for item in found]
    turns = cycle(known)

    def three() -> None:
        query, places = next(turns)
        for one in places:
            matcher.verify(query, one, rule)

    geometry = measure(three, seconds, least=len(found))
    rows = [
        Row("local features of one image", (sampled(features),), {"stage": "features"}),
        Row("geometry of three places, one of them right", (sampled(geometry),), {"stage": "geometry"}),
    ]
    right = [(query, places[0]) for query, places in known]
    posed = [pair for pair in right if matcher.verify(*pair, rule).relative_pose is not None]
    pairs = cycle(posed)
    if posed:
        both = measure(lambda: matcher.verify(*next(pairs), rule).relative_pose, seconds, least=len(posed))
        rows.append(Row("geometry of one place with its relative pose", (sampled(both),), {"stage": "relative_pose"}))
    width, height = found[0].query.image.shape[1::-1]
    count = sum(len(query) for query, _ in known) / len(known)
    inliers = sum(matcher.verify(*pair, rule).inlier_count for pair in right) / len(right)
    notes = [
        f"{'made-up images' if request.images is None else 'given images'} of {width} x {height}, {count:.0f} features "
        f"and {inliers:.0f} inliers of the right place on average, {request.config.model.threads} thread"
    ]
    if not posed:
        notes.append("relative pose left out: no intrinsics, or no image that shows the place of the one before it")
    return Section("verify", "Verify", tuple(rows), tuple(notes))
