"""Images from memory or files, features of a frozen trunk, descriptors of many images: all as a plain loop has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import training_toys as toys

from tscm_core.errors import ConfigError, DatasetError, TscmError
from tscm_core.evaluation.describe import read_rgb
from tscm_core.models.netvlad import NetVLADPooling
from tscm_core.recognition.image import resize
from tscm_core.training.augment import AugmentConfig, Augmenter
from tscm_core.training.feature_cache import FeatureCache, describe_features, describe_images
from tscm_core.training.images import Images, normalise
from tscm_core.training.visual_words import place_visual_words

CPU = torch.device("cpu")


def silent(title, done, total):
    assert 0 < done <= total


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return sorted(toys.write_drive(tmp_path_factory.mktemp("toys") / "drive").glob("*.png"))


@pytest.fixture
def network():
    torch.manual_seed(3)
    return toys.ToyNetwork().eval()


def cache(network, files, variants, **more):
    images, vary = Images(files, (24, 18)), Augmenter(AugmentConfig())
    more = {"device": CPU, "cache_mb": 100, "folder": None, "progress": silent} | more
    return FeatureCache.compute(network, images, vary, variants, **more)


@pytest.mark.parametrize("cache_mb", [0, 1])
def test_images_are_the_files_resized(files, cache_mb):
    images = Images(files, (16, 12), cache_mb)
    images.fill(silent)
    wanted = [resize(read_rgb(file), (16, 12)) for file in files]
    assert all(np.array_equal(images[i], wanted[i]) for i in range(len(files)))
    order = [5, 3, 3, 20, 0]
    batches = list(images.batches(order, 2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert np.array_equal(torch.cat(batches), np.stack([wanted[i] for i in order]))


def test_memory_is_used_as_far_as_it_is_allowed(files, tmp_path):
    copies = [tmp_path / file.name for file in files]
    for file, copy in zip(files, copies, strict=True):
        copy.write_bytes(file.read_bytes())
    images = Images(copies, (400, 250), cache_mb=3)
    images.fill(silent)
    for copy in copies:
        copy.unlink()
    assert images[9].shape == (250, 400, 3), "ten of 0.3 MB each fit in 3 MB"
    with pytest.raises(DatasetError):
        images[10]


def test_normalised_pixels_are_what_the_network_takes(network):
    pixels = torch.randint(0, 256, (2, 18, 24, 3), dtype=torch.uint8)
    network.mean, network.std = (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)
    found = normalise(pixels, network)
    for channel in range(3):
        wanted = (pixels[..., channel].float() - network.mean[channel]) / network.std[channel]
        assert torch.equal(found[:, channel], wanted)


def test_descriptors_are_those_of_one_image_at_a_time(network, files):
    found = describe_images(network, Images(files, (24, 18)), CPU, silent)
    for row, file in zip(found, files, strict=True):
        pixels = torch.from_numpy(read_rgb(file)[None].copy())
        assert np.allclose(row, network(normalise(pixels, network)).detach()[0], atol=1e-6)


def test_kept_features_are_the_trunks_and_clean_ones_come_first(network, files):
    kept = cache(network, files, 2)
    assert (len(kept), kept.variants) == (len(files), 3)
    for number in (0, 7, 23):
        pixels = torch.from_numpy(read_rgb(files[number])[None].copy())
        wanted = network.features(normalise(pixels, network))[0][0]
        assert torch.allclose(kept.take([number], [0])[0][0].float(), wanted, atol=2e-3)
        assert not torch.equal(kept.take([number], [1])[0], kept.take([number], [2])[0])
    whole = describe_images(network, Images(files, (24, 18)), CPU, silent)
    assert np.allclose(describe_features(network, kept, CPU), whole, atol=2e-3)


def test_features_that_do_not_fit_are_refused_with_what_they_need(network, files):
    with pytest.raises(ConfigError, match=r"24 images in 3001 variants take 3 MB, but data\.cache_mb allows 2"):
        cache(network, files, 3000, cache_mb=2)


def test_features_in_a_folder_are_used_again_until_anything_changes(network, files, tmp_path):
    first = cache(network, files, 1, folder=tmp_path / "kept")
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert len(names) == 1
    stopped = {"folder": tmp_path / "kept", "progress": lambda *_: pytest.fail("computed again")}
    again = cache(network, files, 1, **stopped)
    assert torch.equal(first.take([3], [1])[0], again.take([3], [1])[0])
    with torch.no_grad():
        network.linear.weight += 1
    cache(network, files, 1, **stopped)  # the head is not in it
    with torch.no_grad():
        network.trunk[0].weight += 1
    cache(network, files, 1, folder=tmp_path / "kept")
    cache(network, files[:-1], 1, folder=tmp_path / "kept")
    cache(network, files, 2, folder=tmp_path / "kept")
    assert len(list((tmp_path / "kept").iterdir())) == 4
    (tmp_path / "file").write_text("")
    with pytest.raises(TscmError, match="features cannot be kept in"):
        cache(network, files, 1, folder=tmp_path / "file" / "kept")


class TwoLevels(toys.ToyNetwork):
    def features(self, images):
        flat = self.trunk(images).flatten(1)
        return flat, flat + 1


def test_levels_that_a_killed_run_left_in_a_folder_are_not_taken_for_all(files, tmp_path):
    torch.manual_seed(3)
    network = TwoLevels().eval()
    whole = cache(network, files, 1, folder=tmp_path)
    first, second = sorted(tmp_path.iterdir())
    assert (first.name[-6:], second.name[-6:]) == ("-0.npy", "-1.npy")
    first.unlink()  # the level that is written last
    again = cache(network, files, 1, folder=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(whole.take([3], [1]), again.take([3], [1]), strict=True))
    assert len(again.take([3], [1])) == 2


class Words(toys.ToyNetwork):
    def __init__(self):
        super().__init__()
        self.words = NetVLADPooling(4, 3)

    def features(self, images):
        return (self.trunk(images).flatten(2).transpose(1, 2),)

    def head(self, tokens):
        return self.words(tokens)


def test_visual_words_start_from_the_tokens_of_the_images(files):
    network, images = Words().eval(), Images(files, (24, 18))
    place_visual_words(network, images, 100, 1, silent)
    pixels = torch.cat(list(images.batches(range(len(files)), 8)))
    reference = NetVLADPooling(4, 3)
    with torch.no_grad():
        reference.init_clusters(network.features(normalise(pixels, network))[0].flatten(0, 1))
    assert torch.allclose(network.words.cluster_weights2, reference.cluster_weights2, atol=1e-5)
    before = network.words.cluster_weights.clone()
    place_visual_words(network, images, 0, 1, silent)
    assert torch.equal(network.words.cluster_weights, before)
