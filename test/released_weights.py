"""Checkpoints of the released networks with known weights, and what the released code made of them."""

from __future__ import annotations

import csv
import functools
import math
import zlib

import numpy as np
import torch
from shared_data import shared


def reference():
    """Names and shapes of the released checkpoints, and the descriptors that the released code gave."""
    return shared("../reference/tscm_released")


def tensor_of(name, shape):
    """The value that the reference's README gives a tensor, by its name alone."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
    if name.endswith("running_var"):
        values = 1 + 0.1 * np.abs(values)
    elif name.endswith("running_mean"):
        values = 0.1 * values
    elif name.endswith(".p"):
        values = np.full(shape, 3.0)
    elif name.endswith("hidden1_weights"):
        values *= 16 / math.sqrt(shape[1])
    elif len(shape) >= 2:
        values /= math.sqrt(math.prod(shape[1:]))
    else:
        values = 1 + 0.1 * values if name.endswith("weight") else 0.1 * values
    return torch.from_numpy(np.asarray(values, np.float32))


@functools.cache
def rows():
    with (reference() / "state_dict.tsv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def released_state(network, dead=()):
    """All of "student" or "teacher"; names that begin with one of ``dead`` are zeros that take no room."""
    state = {}
    for row in rows():
        if row["network"] != network:
            continue
        shape = () if row["shape"] == "scalar" else tuple(map(int, row["shape"].split("x")))
        if row["name"].startswith(dead):
            state[row["name"]] = torch.zeros(()).expand(shape)
        elif row["alias_of"]:
            state[row["name"]] = state[row["alias_of"]]
        else:
            state[row["name"]] = tensor_of(row["name"], shape)
    return state


def checkpoint_of(state):
    """What the authors' trainer saves around a state dict."""
    moments = {"step": 3, "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}
    return {
        "epoch": 7, "step": 4321, "state_dict": state, "scheduler": {"gamma": 0.99, "last_epoch": 7},
        "optimizer": {"state": {0: moments}, "param_groups": [{"lr": 1e-5, "betas": (0.9, 0.999), "params": [0]}]},
    }  # fmt: skip


def reference_images():
    """The normalised images that the reference descriptors are of."""
    images = np.random.default_rng(0).standard_normal((2, 3, 224, 224), dtype=np.float32)
    images[1] *= 2
    return torch.from_numpy(images)
