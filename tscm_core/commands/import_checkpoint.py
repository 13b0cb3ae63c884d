"""``tscm import-checkpoint``: the authors' checkpoints into network files of ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tscm_core.commands.support import Json, print_json, print_table
from tscm_core.errors import ModelFileError, absence

_WHAT = "a checkpoint of the released TSCM networks"


def import_checkpoint_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The authors' checkpoint, e.g. ckpt_best.pth.tar.")],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Network file to write, e.g. released_student.safetensors.")
    ],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    json_output: Json = False,
) -> None:
    """Turn a checkpoint of the TSCM authors, teacher or student, into a network file.

    The result keeps the released network exactly, takes images of 224x224, and leaves out what never made a descriptor.

    Example: `tscm import-checkpoint ckpt_best.pth.tar --out released_student.safetensors`
    """
    result = import_checkpoint(file, out, overwrite=overwrite)
    print_json(result) if json_output else print_table("Imported", result.items())


def import_checkpoint(file: Path, out: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Read ``file``, write ``out``, and say what was found.

    Raises:
        ModelFileError: ``file`` is missing or not of a released network, or ``out`` exists or cannot be written.
    """
    from tscm_core.checkpoints import save_network
    from tscm_core.models.released_weights import released_network

    file, out = file.expanduser(), out.expanduser()
    if out.exists() and (not overwrite or not out.is_file()):
        raise ModelFileError(f"{out} exists: name another file" + (", or add --overwrite" if out.is_file() else ""))
    if not out.parent.is_dir():
        raise ModelFileError(f"{out} cannot be written: there is no folder {out.parent}")
    checkpoint = _read(file)
    network, stripped = released_network(checkpoint["state_dict"], file)
    counts = {key: checkpoint[key] for key in ("epoch", "step") if isinstance(checkpoint.get(key), int)}
    header = save_network(network, out, config={"imported_from": file.name, **counts}, metrics={})
    return {
        "network": network.spec["name"],
        "out": str(out),
        "model_id": header.model_id,
        "dim": network.dim,
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "tensors_left_out": stripped,
        **counts,
    }


def _read(file: Path) -> Mapping[str, Any]:
    from tscm_core.models.weight_files import is_state, read_pickle

    if not file.is_file():
        raise ModelFileError(f"checkpoint {file} {absence(file)}")
    content = read_pickle(file, _WHAT)
    if not isinstance(content, Mapping) or not is_state(content.get("state_dict")):
        raise ModelFileError(f"weights file {file} is not {_WHAT}: it has no state_dict of plain tensors")
    return content
