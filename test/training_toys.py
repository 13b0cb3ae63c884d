"""A network of a few hundred numbers, a drive of a few small pictures, and ``tscm train`` on both."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from torch import nn
from torch.nn import functional

from tscm_core.models import build
from tscm_core.models.network import Network

TEST, ROOT = Path(__file__).resolve().parent, Path(__file__).resolve().parent.parent
WIDTH, HEIGHT, PLACES, SHOTS = 24, 18, 8, 3


class ToyNetwork(Network):
    """One convolution with batch normalisation, a mean over each quarter, a linear map with dropout."""

    def __init__(self, dim=6, dropout=0.1):
        super().__init__()
        self.dim, self.input_size = dim, (WIDTH, HEIGHT)
        self.spec = {"name": "toy", "dim": dim, "dropout": dropout}
        self.trunk = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
        self.drop, self.linear = nn.Dropout(dropout), nn.Linear(16, dim)

    @classmethod
    def from_spec(cls, spec):
        return cls(**{key: value for key, value in spec.items() if key != "name"})

    def features(self, images):
        return (self.trunk(images).flatten(1),)

    def head(self, flat):
        return functional.normalize(self.linear(self.drop(flat)), dim=1)


def register():
    build.NETWORKS["toy"] = ("training_toys", "ToyNetwork")


def write_drive(folder, seed=0):
    """Eight places of one colour pattern each, three shots of every one, 50 m apart."""
    rng, rows = np.random.default_rng(seed), ["image,x,y"]
    folder.mkdir(parents=True)
    for place in range(PLACES):
        pattern = cv2.resize(rng.integers(0, 256, (3, 4, 3), np.uint8), (WIDTH, HEIGHT))
        for shot in range(SHOTS):
            noise = rng.integers(-60, 60, pattern.shape)
            name = f"{place}_{shot}.png"
            cv2.imwrite(str(folder / name), np.clip(pattern + noise, 0, 255).astype(np.uint8))
            rows.append(f"{name},{50 * place},{shot}")
    (folder / "positions.csv").write_text("\n".join(rows) + "\n")
    return folder


def settings_tree(folder, **sections):
    """Settings for a run of a second: 24 tuples, 6 batches an epoch."""
    drive = {"kind": "positions", "folder": str(folder), "positive_radius": 10.0, "negative_radius": 20.0}
    tree = {
        "network": {"name": "toy"},
        "data": {"train": [drive], "val": [drive]},
        "mining": {"negatives": 3, "sample": 10, "margin": 4.0},
        "optim": {"lr": 0.01},
        "trainer": {"max_epochs": 3, "batch": 4, "accelerator": "cpu", "log_every": 1, "checkpoint_steps": 2},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section
    return tree


def write_settings(path, tree):
    path.write_text(yaml.safe_dump(tree))
    return path


def command(*arguments):
    """``tscm train`` in a process that knows the toy network; TRAINING_KILL=n ends it in batch n, without mercy."""
    return [sys.executable, str(TEST / "training_toys.py"), "train", *map(str, arguments)]


def environment(**more):
    path = os.pathsep.join([str(TEST), str(ROOT)])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | more


def weights(file):
    from safetensors.torch import load_file

    return load_file(file)


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def _kill_in_batch(number):
    from tscm_core.training.task import DescriptorTask

    whole, seen = DescriptorTask.training_step, []

    def step(self, batch, batch_idx):
        seen.append(batch_idx)
        if len(seen) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(self, batch, batch_idx)

    DescriptorTask.training_step = step


def _log_recall(file):
    from tscm_core.training.recall_check import RecallCheck

    whole = RecallCheck._measure

    def measure(self, task, epoch):
        found, weights = whole(self, task, epoch), [float(weight.sum()) for weight in task.network.parameters()]
        with Path(f"{file}.{task.global_rank}").open("a") as log:
            log.write(json.dumps([found, weights]) + "\n")
        return found

    RecallCheck._measure = measure


def main():
    register()
    torch.set_num_threads(1)
    if "TRAINING_KILL" in os.environ:
        _kill_in_batch(int(os.environ["TRAINING_KILL"]))
    if "TRAINING_RECALL" in os.environ:
        _log_recall(os.environ["TRAINING_RECALL"])
    from tscm_core import cli
    from tscm_core.commands.train import train_app

    if not any(group.name == "train" for group in cli.app.registered_groups):
        cli.app.add_typer(train_app, name="train")
    cli.main()


if __name__ == "__main__":
    import training_toys

    # a shell that runs the tests in the background has them ignore it, and so would this process
    signal.signal(signal.SIGINT, signal.default_int_handler)
    training_toys.main()
