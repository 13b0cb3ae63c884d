"""Compressed images over DDS: jpeg and png are recognised, damaged ones refused with a sentence."""

from __future__ import annotations

import cv2
import pytest
from ros_helpers import EASY, compressed_message, picture, refuse, running_node
from sensor_msgs.msg import CompressedImage


@pytest.fixture(scope="module")
def compressed(tmp_path_factory):
    parameters = EASY | {"image_transport": "compressed"}
    with running_node(tmp_path_factory.mktemp("node"), parameters, CompressedImage) as rig:
        yield rig


def jpeg(seed):
    return cv2.imencode(".jpg", cv2.cvtColor(picture(seed), cv2.COLOR_RGB2BGR))[1].tobytes()


def png(seed):
    return cv2.imencode(".png", cv2.cvtColor(picture(seed), cv2.COLOR_RGB2BGR))[1].tobytes()


@pytest.mark.parametrize("encode", [jpeg, png])
def test_compressed_images_are_recognised(compressed, encode):
    kind = encode.__name__
    first = compressed.send(compressed_message(encode(7), compressed.tick(), kind))
    assert first.is_keyframe
    again = compressed.send(compressed_message(encode(7), compressed.tick(), kind))
    assert again.best_similarity == pytest.approx(1.0, abs=1e-4)
    assert again.status == 0, again.reason


def test_a_truncated_image_is_refused_and_the_next_good_one_processed(compressed):
    data = jpeg(8)
    refused = refuse(compressed, compressed_message(data[: len(data) // 2], compressed.tick()), "it is cut off")
    after = compressed.send(compressed_message(data, compressed.tick()))
    assert after.is_keyframe
    assert after.images_refused == refused
