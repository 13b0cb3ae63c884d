"""NetVLAD against loops written from the papers, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tscm_core.models.netvlad import NetVLAD, NetVLADPooling

CHANNELS, DIM, CLUSTERS = 5, 3, 4


@pytest.fixture
def layer():
    torch.manual_seed(0)
    layer = NetVLAD(CHANNELS, DIM, CLUSTERS).double()
    torch.nn.init.normal_(layer.cluster_biases)
    torch.nn.init.normal_(layer.context_gating.gating_biases)
    return layer


@pytest.fixture
def pooling():
    torch.manual_seed(1)
    layer = NetVLADPooling(CHANNELS, CLUSTERS).double()
    torch.nn.init.normal_(layer.cluster_biases)
    return layer


def plain_pooling(tokens, layer):
    """One image, [N, C] to [C * K]: equation 4 of NetVLAD and both normalisations."""
    weights, centres, biases = (
        getattr(layer, name).detach().numpy() for name in ("cluster_weights", "cluster_weights2", "cluster_biases")
    )
    vlad = np.zeros((CHANNELS, CLUSTERS))
    for token in tokens:
        scores = np.exp([token @ weights[:, k] + biases[k] for k in range(CLUSTERS)])
        for k in range(CLUSTERS):
            for c in range(CHANNELS):
                vlad[c, k] += scores[k] / scores.sum() * (token[c] - centres[0, c, k])
    for k in range(CLUSTERS):
        vlad[:, k] /= np.linalg.norm(vlad[:, k])
    return (vlad / np.linalg.norm(vlad)).ravel()


def plain_netvlad(tokens, layer):
    """One image, [N, C] to [D]: pooling, projection, equation 1 of context gating."""
    hidden, gating = layer.hidden1_weights.detach().numpy(), layer.context_gating
    projected = sum(number * row for number, row in zip(plain_pooling(tokens, layer), hidden, strict=True))
    gates = projected @ gating.gating_weights.detach().numpy() + gating.gating_biases.detach().numpy()
    return projected / (1 + np.exp(-gates))


@pytest.mark.parametrize("count", [1, 2, 17])
def test_it_is_the_formula(layer, count):
    tokens = torch.randn(3, count, CHANNELS, dtype=torch.float64)
    found = layer(tokens).detach().numpy()
    assert found.shape == (3, DIM)
    for image in range(3):
        assert found[image] == pytest.approx(plain_netvlad(tokens[image].numpy(), layer), abs=1e-12)


@pytest.mark.parametrize("count", [1, 2, 17])
def test_pooling_alone_is_the_formula_before_the_projection(pooling, layer, count):
    tokens = torch.randn(3, count, CHANNELS, dtype=torch.float64)
    found = pooling(tokens).detach().numpy()
    assert found.shape == (3, CHANNELS * CLUSTERS)
    for image in range(3):
        assert found[image] == pytest.approx(plain_pooling(tokens[image].numpy(), pooling), abs=1e-12)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1.0)
    assert torch.equal(pooling(tokens), pooling.pool(tokens))
    assert torch.allclose(layer(tokens), layer.context_gating(layer.pool(tokens) @ layer.hidden1_weights))


def test_pooling_alone_has_no_weights_of_a_projection(pooling):
    assert set(pooling.state_dict()) == {"cluster_weights", "cluster_weights2", "cluster_biases"}


def test_a_token_on_its_word_leaves_nothing_of_it(pooling):
    """No residual, no direction, and still a number: a blank wall must not become NaN."""
    with torch.no_grad():
        pooling.cluster_weights2.fill_(0.5)
    found = pooling(torch.full((1, 3, CHANNELS), 0.5, dtype=torch.float64))
    assert torch.equal(found, torch.zeros_like(found))


@pytest.mark.parametrize("name", ["layer", "pooling"])
def test_gradients_are_those_of_differences(name, request):
    tokens = torch.randn(2, 6, CHANNELS, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(request.getfixturevalue(name), (tokens,))


def test_the_order_of_tokens_says_nothing(layer):
    tokens = torch.randn(1, 9, CHANNELS, dtype=torch.float64)
    assert torch.allclose(layer(tokens), layer(tokens[:, torch.randperm(9)]), atol=1e-12)


def test_names_are_the_released_ones(layer):
    assert set(layer.state_dict()) == {
        "cluster_weights", "cluster_weights2", "cluster_biases", "hidden1_weights",
        "context_gating.gating_weights", "context_gating.gating_biases",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["layer", "pooling"])
def test_clusters_are_put_where_tokens_are(kind, request):
    """Four heaps of tokens: each becomes a word, and a token is assigned by exp(-alpha * squared distance)."""
    layer = request.getfixturevalue(kind)
    heaps = torch.eye(CLUSTERS, CHANNELS, dtype=torch.float64)
    tokens = heaps.repeat_interleave(20, dim=0) + 0.01 * torch.randn(80, CHANNELS, dtype=torch.float64)
    layer.init_clusters(tokens, sharpness=3.0)
    centres = layer.cluster_weights2[0].T
    assert torch.allclose(centres, tokens.view(4, 20, CHANNELS).mean(dim=1), atol=1e-9)
    found = (tokens @ layer.cluster_weights + layer.cluster_biases).softmax(dim=1)
    assert torch.allclose(found, (-3 * torch.cdist(tokens, centres) ** 2).softmax(dim=1), atol=1e-9)


@pytest.mark.parametrize("rounds", [1, 2, 7])
def test_clusters_are_those_of_plain_k_means(pooling, rounds):
    tokens = torch.randn(60, CHANNELS, dtype=torch.float64)
    centres = tokens.numpy()[[0, 19, 39, 59]].copy()
    for _ in range(rounds):
        nearest = [min(range(CLUSTERS), key=lambda k: ((token - centres[k]) ** 2).sum()) for token in tokens.numpy()]
        centres = np.array([tokens.numpy()[np.array(nearest) == k].mean(axis=0) for k in range(CLUSTERS)])
    before = tokens.clone()
    pooling.init_clusters(tokens, rounds=rounds)
    assert pooling.cluster_weights2[0].T.detach().numpy() == pytest.approx(centres, abs=1e-12)
    assert torch.equal(tokens, before)


def test_more_words_than_kinds_of_tokens_are_still_numbers(pooling):
    pooling.init_clusters(torch.ones(CLUSTERS, CHANNELS, dtype=torch.float64))
    assert all(torch.isfinite(weight).all() for weight in pooling.parameters())
