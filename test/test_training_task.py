"""What moves, how fast, and in which mode the parts of a network are while it learns."""

from __future__ import annotations

import math

import pytest
import torch
import training_toys as toys
from torch.nn import functional

from tscm_core.errors import ConfigError
from tscm_core.training import losses
from tscm_core.training.batches import TupleBatch
from tscm_core.training.distillation_task import DistillationTask
from tscm_core.training.images import normalise
from tscm_core.training.run import _teacher_of
from tscm_core.training.settings_file import settings_from
from tscm_core.training.task import learning_rate
from tscm_core.training.teacher_task import TeacherTask

ROWS = torch.tensor([[0, 1, 2], [3, 4, -1]], dtype=torch.int32)


def batch(teacher=None):
    pixels = torch.randint(0, 256, (5, toys.HEIGHT, toys.WIDTH, 3), generator=torch.Generator().manual_seed(1))
    return TupleBatch((pixels.to(torch.uint8),), torch.empty(0) if teacher is None else teacher, ROWS)


def test_the_rate_rises_and_falls_as_asked():
    settings = settings_from({"optim": {"decay": 0.5, "warmup_steps": 4}})
    assert [learning_rate(settings, step, 0, 0.0) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert learning_rate(settings, 50, 3, 0.7) == 0.125
    cosine = settings_from({"optim": {"schedule": "cosine"}, "trainer": {"max_epochs": 4}})
    assert learning_rate(cosine, 9, 0, 0.0) == 1.0
    assert learning_rate(cosine, 9, 1, 0.5) == pytest.approx(0.5 * (1 + math.cos(math.pi * 1.5 / 4)))
    steps = settings_from({"optim": {"schedule": "cosine"}, "trainer": {"max_steps": 10}})
    assert learning_rate(steps, 5, 0, 0.1) == pytest.approx(0.5)
    assert learning_rate(settings_from({"optim": {"schedule": "constant"}}), 99, 9, 0.5) == 1.0


@pytest.mark.parametrize(
    ("freeze", "training"),
    [
        ({}, {"trunk", "trunk.0", "trunk.2", "trunk.3", "drop", "linear"}),
        ({"batch_norm": False}, {"trunk", "trunk.0", "trunk.1", "trunk.2", "trunk.3", "drop", "linear"}),
        ({"trunk": True}, {"drop", "linear"}),
        ({"trunk": True, "unfreeze_after": 2}, {"drop", "linear"}),
    ],
)
def test_modes_while_learning(freeze, training):
    task = TeacherTask(toys.ToyNetwork(), settings_from({"freeze": freeze}))
    task.train()
    assert {name for name, module in task.network.named_modules() if module.training and name} == training
    with task.describing() as network:
        assert not any(module.training for module in network.modules())
        assert not torch.is_grad_enabled()
    assert {name for name, module in task.network.named_modules() if module.training and name} == training


def test_groups_hold_everything_once_with_their_factors():
    settings = settings_from({"optim": {"name": "adamw", "lr": 0.5, "trunk_lr_factor": 0.1, "weight_decay": 0.2}})
    student, teacher = toys.ToyNetwork(dim=4), toys.ToyNetwork(dim=3)
    task = DistillationTask(student, teacher, settings)
    optimizer = task.configure_optimizers()
    assert isinstance(optimizer, torch.optim.AdamW)
    head, trunk = optimizer.param_groups
    assert {id(weight) for weight in trunk["params"]} == {id(weight) for weight in student.trunk.parameters()}
    others = {id(weight) for weight in [*student.linear.parameters(), *task.loss.parameters()]}
    assert {id(weight) for weight in head["params"]} == others
    assert (head["factor"], trunk["factor"], head["weight_decay"]) == (1.0, 0.1, 0.2)
    frozen = TeacherTask(toys.ToyNetwork(), settings_from({"freeze": {"trunk": True}}))
    assert len(frozen.configure_optimizers().param_groups) == 1
    frozen.network.linear.requires_grad_(False)
    with pytest.raises(ConfigError, match="nothing to learn"):
        frozen.configure_optimizers()


def test_the_teachers_loss_is_the_triplet_loss_of_its_descriptors():
    task = TeacherTask(toys.ToyNetwork(dropout=0.0), settings_from({"loss": {"margin": 0.3}}))
    found = task.losses(batch(), task(batch()))
    with torch.no_grad():
        described = task.network(normalise(batch().inputs[0], task.network))
    a, p, n = described[[0, 3]], described[[1, 4]], described[[2, 2]][:, None]
    wanted = losses.triplet(a, p, n, torch.tensor([[True], [False]]), 0.3)
    assert torch.allclose(found["total"], wanted, atol=1e-6)
    assert torch.equal(found["hard"], found["total"])


@pytest.mark.parametrize("sees", ["clean", "augmented"])
def test_a_teacher_gives_descriptors_and_takes_no_gradient(sees):
    student, teacher = toys.ToyNetwork(dropout=0.0), toys.ToyNetwork(dropout=0.5)
    task = DistillationTask(student, teacher, settings_from({"teacher": {"sees": sees}}))
    task.train()
    assert not teacher.training
    images = torch.randint(0, 256, (5, 20, 30, 3), dtype=torch.uint8)
    taught = teacher(normalise(images, teacher)) if sees == "clean" else images
    parts = task.losses(batch(taught), task(batch(taught)))
    described = functional.normalize(student(normalise(batch().inputs[0], student)), dim=1)
    theirs = teacher(normalise(images, teacher))
    assert torch.allclose(parts["soft"], losses.soft(described, theirs), atol=1e-6)
    parts["total"].backward()
    assert all(weight.grad is None for weight in teacher.parameters())
    assert all(weight.grad is not None for weight in student.parameters())
    assert not any("teacher" in name or "outside" in name for name in task.state_dict())


def test_the_teachers_axes_are_turned_towards_the_students_and_no_distance_changes():
    random = torch.Generator().manual_seed(3)
    student, teacher = toys.ToyNetwork(dropout=0.0), toys.ToyNetwork(dropout=0.0)
    task = DistillationTask(student, teacher, settings_from({}))
    ours = functional.normalize(torch.randn(40, 6, generator=random), dim=1)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=random))[0]
    assert task.may_align
    task.align(ours.numpy(), (ours @ rotation).numpy())
    assert torch.allclose(task.turn, rotation.T, atol=1e-5)
    theirs = functional.normalize(torch.randn(5, 6, generator=random), dim=1)
    described = task(batch())
    parts = task.losses(batch(theirs), described)
    turned = theirs @ rotation.T
    assert torch.allclose(torch.cdist(turned, turned), torch.cdist(theirs, theirs), atol=1e-5)
    plain = functional.normalize(student(normalise(batch().inputs[0], student)), dim=1)
    assert torch.allclose(parts["soft"], losses.soft(plain, turned), atol=1e-6)


def test_nothing_is_turned_where_a_projection_is_learnt_or_it_is_not_asked_for():
    for dim, align in ((5, True), (6, False)):
        teacher = toys.ToyNetwork(dim=dim)
        task = DistillationTask(toys.ToyNetwork(), teacher, settings_from({"teacher": {"align": align}}))
        assert not task.may_align
        assert "turn" not in task.state_dict()


def test_a_head_has_one_start():
    settings = settings_from({"init": {"whiten": True, "weights": "a.safetensors"}})
    with pytest.raises(ConfigError, match=r"init.whiten makes the head that init.weights brings"):
        _teacher_of("student", settings)
