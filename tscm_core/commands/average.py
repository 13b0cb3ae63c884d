"""``tscm average``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tscm_core.commands.support import Json, output, print_json


def average_command(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="Network file, e.g. before its training.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="Network file of the same kind, e.g. after it.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Network file to write.")],
    part: Annotated[float, typer.Option(min=0.0, max=1.0, help="How much of AFTER: 0 none, 1 all.")] = 0.5,
    half: Annotated[bool, typer.Option("--half", help="Keep matrices as float16, in half the space.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    json_output: Json = False,
) -> None:
    """Average the weights of two networks, of which one was trained from the other, or both from one start.

    Settings and recall of AFTER are kept beside them.

    Example: `tscm average start_run/best.safetensors student_run/best.safetensors --out student.safetensors --half`
    """
    from tscm_core.checkpoints import load_network, save_network
    from tscm_core.errors import ModelFileError
    from tscm_core.network_header import read_header
    from tscm_core.training.averaging import average

    out = out.expanduser()
    if not out.parent.is_dir():
        raise ModelFileError(f"{out} cannot be written: there is no folder {out.parent}")
    if out.exists() and not overwrite:
        raise ModelFileError(f"{out} is there already: name another file, or give --overwrite")
    mean = average(load_network(before), load_network(after), part)
    learnt = read_header(after)
    origin = {"averaged": {"before": read_header(before).model_id, "after": learnt.model_id, "part": part}}
    header = save_network(mean, out, config={**learnt.config, **origin}, metrics=learnt.metrics, half=half)
    if json_output:
        print_json({"file": str(out), "part": part, "model_id": header.model_id})
    else:
        output.print(f"{escape(str(out))}: {header.model_id}")
