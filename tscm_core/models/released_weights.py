"""The authors' state dicts (https://github.com/nubot-nudt/TSCM) in our names.

Their student inherits the whole teacher: of its 1,153 entries only the 274 under ``backboneS.`` make the descriptor.
Their teacher shows each branch twice. NetVLAD's ``bn2`` is in the files and never used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tscm_core.errors import ModelFileError
from tscm_core.models.build import build_network
from tscm_core.models.network import Network
from tscm_core.models.weight_files import check_names

_RESNET = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3"}
_STUDENT = {
    **{f"backboneS.backboneR_Stu.{number}.": f"trunk.{name}." for number, name in _RESNET.items()},
    "backboneS.PatchEmbedding.projection.0.": "patch_embed.proj.",
    "backboneS.gem.": "pool.",
    "backboneS.net_vlad.": "net_vlad.",
    "backboneS.linear0.": "project.",
}
_TEACHER = {
    **{f"backbone.backboneRR.{number}.": f"trunk.{name}." for number, name in _RESNET.items()},
    "backbone.backboneVV.0.": "vit.patch_embed.",
    "backbone.backboneVV.4.": "vit.blocks.",
    "backbone.backboneVV.5.": "vit.norm.",
    "backbone.linear.": "project_vit.",
    "backbone.linear2.": "project_trunk.",
    "backbone.gem.": "pool.",
    "backbone.net_vlad.": "net_vlad.",
    "backbone.net_vlad_R.": "net_vlad_trunk.",
    "backbone.net_vlad_V.": "net_vlad_vit.",
    **{f"backbone.{name}.": f"inter_transformer.{name}." for name in ("attn1", "attn2", "ff1", "ff2")},
}
_TWINS = {"backbone.backboneR.": "backbone.backboneRR.", "backbone.backboneV.": "backbone.backboneVV."}
"""Branches that their teacher shows once more, with their heads behind them."""


class _Form(NamedTuple):
    name: str
    sign: str
    renames: Mapping[str, str]
    dead: tuple[str, ...]


_FORMS = (
    _Form("released_student", "backboneS.", _STUDENT, ("backbone.", "var_head.", "backboneS.net_vlad.bn2.")),
    _Form("released_teacher", "backbone.attn1.", _TEACHER, (
        *_TWINS, "var_head.", *(f"backbone.net_vlad{branch}.bn2." for branch in ("", "_R", "_V")),
    )),
)  # fmt: skip


def released_network(state: Mapping[str, Tensor], path: Path) -> tuple[Network, int]:
    """The network in an authors' state dict, in eval mode, and how many dead entries were left out.

    Args:
        state: names and tensors; the ``module.`` of a data-parallel run is understood.
        path: where they come from, for messages.

    Raises:
        ModelFileError: it is not of either released network, by the name and shape of every tensor, or holds numbers
            that are not finite.
    """
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    form = _recognise(state, path)
    _check_twins(state, path)
    live = {name: tensor for name, tensor in state.items() if not name.startswith(form.dead)}
    ours = {_renamed(name, form.renames): tensor for name, tensor in live.items()}
    with torch.device("meta"):
        expected = build_network({"name": form.name}).state_dict()
    check_names(expected, ours, path, f"the {form.name.replace('_', ' ')}")
    _check_finite(ours, path)
    network = build_network({"name": form.name})
    network.load_state_dict(ours)
    return network.eval().requires_grad_(False), len(state) - len(live)


def _recognise(state: Iterable[str], path: Path) -> _Form:
    for form in _FORMS:
        if any(name.startswith(form.sign) for name in state):
            return form
    raise ModelFileError(
        f"weights file {path} is of neither released network: there is no tensor named backboneS.* (student) or "
        f"backbone.attn1.* (teacher)"
    )


def _check_twins(state: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in state.items():
        for twin, live in _TWINS.items():
            original = state.get(name.replace(twin, live, 1)) if name.startswith(twin) else None
            if original is not None and original.shape != tensor.shape:
                raise ModelFileError(
                    f"weights file {path} is not of a released network: {name} is of another shape than its twin"
                )


def _renamed(name: str, renames: Mapping[str, str]) -> str:
    for theirs, ours in renames.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _check_finite(state: Mapping[str, Tensor], path: Path) -> None:
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise ModelFileError(f"weights file {path} holds numbers that are not finite, first in {broken[0]}")
