"""The head's closed-form start: against a generalised eigenproblem, and on places that only hide behind a nuisance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import eigh
from torch import nn

from tscm_core.datasets.place_building import make_places
from tscm_core.datasets.place_limits import Limits
from tscm_core.errors import ConfigError
from tscm_core.models.baseline import Baseline
from tscm_core.models.netvlad import NetVLADPooling
from tscm_core.models.network import Network
from tscm_core.models.student import LiteStudent, PaperStudent
from tscm_core.training.feature_cache import FeatureCache
from tscm_core.training.whitening import REGULARISATION, discriminative_projection, whiten

DIM, KEPT = 12, 5


def silent(title, done, total):
    assert title == "Whitening"
    assert 0 < done <= total


@pytest.fixture(scope="module")
def samples():
    """Vectors of mixed directions and sizes, and differences that are large in some of them."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(2.0, 1.0, (400, DIM)) @ rng.normal(size=(DIM, DIM))
    differences = rng.normal(size=(300, DIM)) * np.geomspace(0.1, 3.0, DIM) @ rng.normal(size=(DIM, DIM))
    return vectors.astype(np.float32), differences.astype(np.float32)


def covariances(vectors, differences):
    """Of images within a place, regularised, and of all images: sums over rows, in float64."""
    within = sum(np.outer(row, row) for row in differences.astype(np.float64)) / (2 * len(differences))
    within += np.diag(np.full(DIM, REGULARISATION * within.diagonal().mean()))
    centred = vectors.astype(np.float64) - vectors.astype(np.float64).mean(axis=0)
    return within, sum(np.outer(row, row) for row in centred) / len(centred)


@pytest.mark.parametrize("kept", [1, KEPT, DIM])
def test_it_solves_the_generalised_eigenproblem(samples, kept):
    """Directions p that make p' C p largest among those with p' W p = 1: scipy finds them in one step."""
    within, total = covariances(*samples)
    _, expected = eigh(total, within)
    projection, origin = discriminative_projection(*samples, kept)
    assert (projection.shape, projection.dtype, origin.dtype) == ((DIM, kept), np.float64, np.float64)
    assert origin == pytest.approx(samples[0].mean(axis=0, dtype=np.float64))
    for number in range(kept):
        axis = expected[:, -1 - number]
        sign = np.sign(axis @ projection[:, number])
        assert sign * projection[:, number] == pytest.approx(axis, abs=2e-4 * np.abs(axis).max())


def test_differences_within_places_become_isotropic(samples):
    within, _ = covariances(*samples)
    projection, _ = discriminative_projection(*samples, DIM)
    assert projection.T @ within @ projection == pytest.approx(np.eye(DIM), abs=1e-4)


def test_axes_are_uncorrelated_and_ordered_by_variance(samples):
    projection, origin = discriminative_projection(*samples, DIM)
    covariance = np.cov((samples[0] - origin) @ projection, rowvar=False, bias=True)
    variances = covariance.diagonal()
    assert (np.diff(variances) < 0).all()
    assert np.abs(covariance - np.diag(variances)).max() < 1e-3 * variances.max()
    fewer, _ = discriminative_projection(*samples, KEPT)
    assert fewer == pytest.approx(projection[:, :KEPT])


def test_directions_without_a_difference_are_not_blown_up():
    rng = np.random.default_rng(1)
    vectors, differences = rng.normal(size=(100, DIM)), np.zeros((50, DIM))
    differences[:, 0] = rng.normal(size=50)
    projection, _ = discriminative_projection(vectors.astype(np.float32), differences.astype(np.float32), DIM)
    mean = (differences**2).sum() / 100 / DIM
    assert np.linalg.norm(projection, axis=0).max() <= 1.01 / np.sqrt(REGULARISATION * mean)


def visits(seed, places=120, views=3):
    """``[P, V, DIM]``: weak numbers of the place, and in every view a strong nuisance along one known direction."""
    rng = np.random.default_rng(seed)
    nuisance = np.full(DIM, DIM**-0.5)
    where = rng.normal(size=(places, 1, DIM))
    light = rng.normal(0, 12, (places, views, 1)) * nuisance
    return (where + light + rng.normal(0, 0.2, (places, views, DIM)) + 5).astype(np.float32)


def recall_at_1(first, second):
    """Of each row of ``second``, whether the row of ``first`` with the most similar direction is its own."""
    first, second = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (first, second))
    return np.mean((second @ first.T).argmax(axis=1) == np.arange(len(second)))


def test_a_nuisance_is_taken_out_of_places_never_seen():
    learnt, seen = visits(0), visits(1)
    differences = (learnt[:, 1:] - learnt[:, :1]).reshape(-1, DIM)
    projection, origin = discriminative_projection(learnt.reshape(-1, DIM), differences, DIM)
    before = recall_at_1(seen[:, 0] - origin, seen[:, 1] - origin)
    after = recall_at_1((seen[:, 0] - origin) @ projection, (seen[:, 1] - origin) @ projection)
    assert before < 0.6
    assert after > before + 0.25
    nuisance = np.full(DIM, DIM**-0.5)
    assert np.abs(nuisance @ projection).max() < 0.2 * np.linalg.norm(projection, axis=0).min()


# ---------------------------------------------------------------------------------------------- of a student


CHANNELS, CLUSTERS, LEVELS = 3, 4, (5, 6)


class TinyStudent(LiteStudent):
    """The head of the light student for three channels, without a trunk."""

    def __init__(self, clusters=CLUSTERS):
        Network.__init__(self)
        self.spec = {"name": "student", "clusters": clusters}
        self.net_vlad = NetVLADPooling(CHANNELS, clusters)
        self.project_tokens = nn.Linear(CHANNELS * clusters, 8)
        self.project_levels = nn.Linear(sum(LEVELS), 4)
        self.project_layout = nn.Linear(4 * CHANNELS, 4 * CHANNELS)
        self.part_weights = nn.Parameter(torch.ones(3))


def tiny(clusters=CLUSTERS):
    torch.manual_seed(0)
    return TinyStudent(clusters).eval()


PLACES, SHOTS, VARIANTS = 40, 2, 3


@pytest.fixture(scope="module")
def places():
    count = PLACES * SHOTS
    positions = [(50.0 * (number // SHOTS), number % SHOTS) for number in range(count)]
    return make_places("toy", [Path(f"{n}.png") for n in range(count)], positions, limits=Limits(10.0, 20.0))


def features(seed):
    """Of 80 images in three variants, as a trunk might give them: the place's numbers, noise and one nuisance."""
    rng = np.random.default_rng(seed)
    shapes = (CHANNELS, 3, 4), *((level,) for level in LEVELS)
    found = []
    for shape in shapes:
        place = np.repeat(rng.normal(1, 0.5, (PLACES, 1, *shape)), SHOTS, axis=0)
        nuisance = rng.normal(0, 1, (PLACES * SHOTS, VARIANTS, *[1] * len(shape)))
        nuisance = nuisance * np.linspace(-1, 1, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
        noise = rng.normal(0, 0.1, (PLACES * SHOTS, VARIANTS, *shape))
        found.append((place + nuisance + noise).astype(np.float16))
    return FeatureCache(found)


def clean(network, cache):
    with torch.inference_mode():
        return torch.cat([network.head(*(level.float() for level in batch)) for batch in cache.clean()]).numpy()


@pytest.fixture(scope="module")
def whitened(places):
    network = tiny()
    whiten(network, features(0), places, 7, silent)
    return network


def test_what_it_sets_is_the_same_each_time_and_follows_the_seed(places, whitened):
    again, other, before = tiny(), tiny(), tiny().state_dict()
    torch.manual_seed(99)
    whiten(again, features(0), places, 7, silent)
    whiten(other, features(0), places, 8, silent)
    changed = {name for name, tensor in whitened.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == before.keys() - {"part_weights"}
    for name, tensor in whitened.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
        assert torch.isfinite(tensor).all(), name
    assert not torch.equal(whitened.net_vlad.cluster_weights, other.net_vlad.cluster_weights)


def parts_before(network, cache, variant):
    rows = range(len(cache))
    with torch.inference_mode():
        taken = network.before_projection(*(level.float() for level in cache.take(rows, [variant] * len(rows))))
    return [part.double().numpy() for part in taken]


def test_last_layers_are_the_projections_of_what_reaches_them(places, whitened):
    """Differences are between clean images and variants, and between clean images and variants of their positives."""
    cache = features(0)
    variants = [parts_before(whitened, cache, variant) for variant in range(VARIANTS)]
    pairs = [(i, int(j)) for i in range(len(places)) for j in places.positives(i)]
    assert len(pairs) == len(places)
    for number, layer in enumerate(whitened.projections()):
        part = np.stack([variant[number] for variant in variants], axis=1)  # [N, V, D]
        differences = [part[:, 1] - part[:, 0], part[:, 2] - part[:, 0]]
        differences.append([part[i, 0] - part[j, order % VARIANTS] for order, (i, j) in enumerate(pairs)])
        vectors, between = part.reshape(-1, part.shape[2]), np.concatenate(differences)
        projection, origin = discriminative_projection(
            vectors.astype(np.float32), between.astype(np.float32), layer.out_features
        )
        found = (vectors @ layer.weight.detach().double().numpy().T) + layer.bias.detach().double().numpy()
        expected = (vectors - origin) @ projection
        similar = np.abs((found * expected).sum(axis=0)) / np.linalg.norm(found, axis=0)
        strong = expected.var(axis=0) > 1e-3  # axes of no variance at all are arbitrary
        assert similar[strong] == pytest.approx(np.linalg.norm(expected, axis=0)[strong], rel=1e-3)
        assert np.square(found).sum(axis=1).mean() == pytest.approx(1.0, abs=1e-3)


def test_places_are_found_better_than_before(places):
    cache, network = features(0), tiny()
    untrained = recall_at_1(clean(network, cache)[::2], clean(network, cache)[1::2])
    whiten(network, cache, places, 7, silent)
    assert recall_at_1(clean(network, cache)[::2], clean(network, cache)[1::2]) > untrained + 0.1


@pytest.mark.parametrize("build", [Baseline, lambda: PaperStudent("resnet50", 64, (224, 224))])
def test_other_networks_are_refused(places, build):
    with torch.device("meta"):
        network = build()
    with pytest.raises(ConfigError, match=r"init\.whiten is for a student on an EfficientNet-Lite trunk, not for \w+"):
        whiten(network, features(0), places, 7, silent)


def test_too_few_words_for_the_directions_are_refused_before_anything_is_set(places):
    network = tiny(clusters=2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ConfigError, match=r"keeps 8 directions, but 2 clusters have only 6: raise network\.clusters"):
        whiten(network, features(0), places, 7, silent)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
