"""The images that an ablation is judged on: chosen by name of file if need be, and none of them trained on."""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tscm_core.datasets.place_sources import open_places
from tscm_core.datasets.places import PlaceSet
from tscm_core.errors import ConfigError, DatasetError
from tscm_core.evaluation.trial import Trial, trial_of_places
from tscm_core.training.ablation_arms import AblationSettings
from tscm_core.training.ablation_table import EvaluationFacts

_OWN_KEYS = ("name", "about", "unit", "query_images", "database_images")
"""Settings of a source that are read here; all others are those of its kind."""


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Places and the trial that they are; ``facts`` say it in words."""

    places: PlaceSet
    trial: Trial
    facts: EvaluationFacts

    @cached_property
    def fingerprint(self) -> str:
        """Changes with every image, position and limit."""
        places, digest = self.places, hashlib.sha256()
        for path in places.images:
            status = path.stat()
            digest.update(f"{path}|{status.st_size}|{status.st_mtime_ns}\n".encode())
        for part in (places.positions, places.yaw_deg, places.frame, places.area, places.is_query, places.is_database):
            digest.update(part.tobytes())
        digest.update(repr((places.limits, sorted(places.frame_limits.items()))).encode())
        return digest.hexdigest()[:16]


def open_sets(ablation: AblationSettings) -> tuple[PlaceSet, list[EvaluationSet]]:
    """What is learnt from, joined, and what is measured on, with all images in their places.

    Raises:
        ConfigError: a source is unfit; or images that are measured on are learnt from, or tell which network is best.
        DatasetError: images are missing, or no query of a set has a right image.
    """
    data = ablation.training.data
    if not data.train:
        raise ConfigError("data.train names no source of training images")
    learnt = PlaceSet.join([open_places(source) for source in data.train])
    validation = [open_places(source) for source in data.val] if ablation.select == "best" else []
    for places in (learnt, *validation):
        places.check_images()
    sets = [_open(source, learnt) for source in ablation.evaluate]
    names = [part.facts.name for part in sets]
    if len(set(names)) < len(names):
        raise ConfigError(f"ablation.evaluate: two sources have the same name: {', '.join(sorted(names))}")
    for part in sets:
        _check_unseen(part, learnt, "data.train")
        for places in validation:
            _check_unseen(part, places, "data.val")
    return learnt, sets


def _open(source: Mapping[str, Any], learnt: PlaceSet) -> EvaluationSet:
    own = {key: source[key] for key in _OWN_KEYS if key in source}
    name = own.get("name")
    if not isinstance(name, str) or not name:
        raise ConfigError(f"ablation.evaluate: a source needs a name, for the tables: {dict(source)!r}")
    for key in ("about", "unit"):
        if not isinstance(own.get(key, ""), str):
            raise ConfigError(f"ablation.evaluate: {key} of {name} must be text, not {own[key]!r}")
    places = open_places({key: value for key, value in source.items() if key not in own})
    places = dataclasses.replace(chosen_by_name(places, own.get("query_images"), own.get("database_images")), name=name)
    places.check_images()
    unit = own.get("unit", "frames" if source.get("kind") == "frames" else "m")
    trial = trial_of_places(places, unit)
    judged = sum(len(np.setdiff1d(*rows)) > 0 for rows in zip(trial.positives, trial.excluded, strict=True))
    if not judged:
        raise DatasetError(f"{name}: none of its {len(trial.queries)} queries has a right image: there is no recall")
    facts = EvaluationFacts(
        name,
        own.get("about", ""),
        _protocol(places, own, unit),
        places.positive_radius,
        unit,
        len(trial.queries),
        judged,
        len(trial.database),
        _apart(places, learnt),
    )
    return EvaluationSet(places, trial, facts)


def chosen_by_name(places: PlaceSet, query_images: Any, database_images: Any) -> PlaceSet:
    """The images that may ask and those that may answer, by patterns for their file names like ``00[0-3]?.jpg``.

    Args:
        places: of which a part is taken.
        query_images: a pattern or several; ``None``: whatever is a query already.
        database_images: likewise.

    Raises:
        ConfigError: a pattern is no text.
        DatasetError: a pattern fits no image that it could choose.
    """
    asks = places.is_query & _matching(places, query_images, places.is_query, "query_images")
    answers = places.is_database & _matching(places, database_images, places.is_database, "database_images")
    return dataclasses.replace(places, is_query=asks, is_database=answers).subset(asks | answers)


def _matching(places: PlaceSet, patterns: Any, among: NDArray[np.bool_], key: str) -> NDArray[np.bool_]:
    if patterns is None:
        return np.ones(len(places), np.bool_)
    listed = [patterns] if isinstance(patterns, str) else patterns
    if not isinstance(listed, Sequence) or not listed or not all(isinstance(one, str) for one in listed):
        raise ConfigError(f"ablation.evaluate: {key} must be a pattern for file names or several, not {patterns!r}")
    fits = np.zeros(len(places), np.bool_)
    for pattern in listed:
        found = np.array([fnmatch.fnmatchcase(path.name, pattern) for path in places.images], np.bool_) & among
        if not found.any():
            raise DatasetError(f"{places.name}: {key} {pattern} fits none of its {len(places)} images")
        fits |= found
    return fits


def _check_unseen(part: EvaluationSet, seen: PlaceSet, where: str) -> None:
    theirs = {path.resolve() for path in seen.images}
    if shared := [path for path in part.places.images if path.resolve() in theirs]:
        raise ConfigError(
            f"ablation.evaluate: {len(shared)} of {len(part.places)} images of {part.facts.name} are also in {where}, "
            f"first {shared[0].name}: what is measured on must be apart"
        )


def _apart(places: PlaceSet, learnt: PlaceSet) -> str:
    ours, theirs = _area_names(places), _area_names(learnt)
    if shared := len(ours & theirs):
        return f"None of its images is learnt from, but {shared} of its {len(ours)} areas are."
    return "Neither its images nor its areas are learnt from."


def _area_names(places: PlaceSet) -> set[str]:
    return {places.area_names[number] for number in np.unique(places.area) if number < len(places.area_names)}


def _protocol(places: PlaceSet, own: Mapping[str, Any], unit: str) -> str:
    if "query_images" in own or "database_images" in own:
        asked = (own.get(key) or "all" for key in ("query_images", "database_images"))
        shown = [one if isinstance(one, str) else ", ".join(one) for one in asked]
        who = f"queries are the images `{shown[0]}`, the database is `{shown[1]}`"
    elif (places.is_query & places.is_database).all():
        who = "each image is searched for among all others"
    else:
        who = "queries and database are those of the source"
    right = f"right is what is within {places.positive_radius:g} {unit}"
    if places.min_gap:
        right += f"; what is nearer than {places.min_gap:g} {unit} is not searched"
    if places.max_yaw_deg < 180:
        right += f"; headings differ by {places.max_yaw_deg:g} degrees at most"
    return f"{who}; {right}"
