"""``tscm compile``: networks compiled before the robot needs them, and what is in the cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from tscm_core.commands.support import (
    Json,
    Params,
    Settings,
    errors,
    output,
    print_json,
    print_table,
    read_settings,
)
from tscm_core.config import Config, ModelConfig
from tscm_core.errors import ConfigError, DatasetError, DeployError

if TYPE_CHECKING:
    from tscm_core.deploy.engine_cache import EngineCache
    from tscm_core.deploy.engine_file import EngineKey, Entry
    from tscm_core.deploy.load import Built

_LIMITS = {name: limits for name, _, limits in Config().settings()}
_AUTO, _EAGER, _INT8 = "auto", "eager", "int8"


def _choice(name: str) -> Any:
    limits = _LIMITS[f"model.{name}"]
    return typer.Option(metavar="|".join(limits.choices), help=limits.description, show_default=False)


def compile_command(
    backend: Annotated[str | None, _choice("backend")] = None,
    precision: Annotated[str | None, _choice("precision")] = None,
    device: Annotated[str | None, _choice("device")] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", help=_LIMITS["model.threads"].description)] = None,
    weights: Annotated[str | None, typer.Option(metavar="FILE", help=_LIMITS["model.weights"].description)] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For int8: a folder of images like the robot's, subfolders included."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Compile though it is in the cache.")] = False,
    list_engines: Annotated[bool, typer.Option("--list", help="Compile nothing; show what is in the cache.")] = False,
    params: Params = None,
    settings: Settings = None,
    json_output: Json = False,
) -> None:
    """Compile the network ahead of time, so that the node loads it in an instant.

    Takes the node's settings: give it the node's parameter file, or the node compiles again for its own.

    Example: `tscm compile --backend onnxruntime --threads 2`
    """
    from tscm_core.deploy.engine_cache import EngineCache, cache_folder

    asked = {"backend": backend, "precision": precision, "device": device, "threads": threads, "weights": weights}
    config = _configured(read_settings(params, settings), asked).model
    cache = EngineCache(cache_folder(config.engine_cache))
    if list_engines:
        if force or calibration:
            raise typer.BadParameter("--list compiles nothing: leave --force and --calibration out")
        _list(cache, config, json_output)
        return
    images = _calibration_images(calibration, config)
    answer = compile_ahead(config, cache, force, images)
    print_json(answer) if json_output else _print(answer)


def _configured(config: Config, asked: Mapping[str, object]) -> Config:
    for name, value in asked.items():
        try:
            config = config if value is None else config.replace({f"model.{name}": value})
        except ConfigError as error:
            raise typer.BadParameter(str(error), param_hint=f"--{name}") from error
    return config


def _calibration_images(folder: Path | None, config: ModelConfig) -> tuple[Path, ...]:
    from tscm_core.datasets.positions import IMAGE_SUFFIXES

    if folder is None:
        if config.precision == _INT8:
            raise typer.BadParameter(
                "int8 learns the range of every number from images: add --calibration DIR, a folder of images like "
                "those that the robot will see"
            )
        return ()
    if config.precision != _INT8:
        raise typer.BadParameter("--calibration belongs to --precision int8")
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder")
    images = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not images:
        raise DatasetError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)}), nor does a folder in it")
    return tuple(images)


def compile_ahead(config: ModelConfig, cache: EngineCache, force: bool, images: tuple[Path, ...]) -> dict[str, Any]:
    """Compile what ``config`` asks for into ``cache``, which is that of ``config``, and say what was done.

    Raises:
        DeployError: it cannot be compiled, or cannot be kept.
        ModelFileError: the weights cannot be loaded.
        MissingDependencyError: the weights come from a package that is not installed.
    """
    from tscm_core.deploy.load import build_engine

    if config.backend != _EAGER:
        cache.prepare()  # before the minutes that a compiler may take
    built = build_engine(config, lambda sentence: errors.print(escape(sentence)), force, images)
    if built.info is not None and built.path is None:
        raise DeployError(f"{built.backend} was compiled, but is not kept in {cache.folder}: see the lines above")
    if built.backend == _EAGER and config.backend != _EAGER:
        raise DeployError(f"nothing was compiled, and eager PyTorch would be used: {'; '.join(built.refused)}")
    return _answer(built, config)


def _answer(built: Built, config: ModelConfig) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "backend": built.backend,
        "asked_for": config.backend,
        "refused": list(built.refused),
        "device": built.target.device,
        "precision": built.target.precision,
        "threads": built.target.threads,
        "model_id": built.describer.model_id,
        "was_there": built.was_there,
        "seconds": built.seconds,
        "version": None,
        "compile_s": None,
        "agreement": None,
        "file": None,
        "bytes": None,
    }
    if built.info is not None and built.path is not None:
        answer |= {
            "version": built.info.key.backend_version,
            "compile_s": built.info.build_s,
            "agreement": built.info.agreement,
            "file": str(built.path),
            "bytes": built.path.stat().st_size,
        }
    return answer


def _print(answer: Mapping[str, Any]) -> None:
    by_itself = "the fastest that works here" if not answer["refused"] else "those before it cannot run here"
    rows: list[tuple[str, object]] = [
        ("backend", answer["backend"] if answer["version"] is None else f"{answer['backend']} ({answer['version']})"),
        ("why", by_itself if answer["asked_for"] == _AUTO else "asked for"),
        *(("not used", sentence) for sentence in answer["refused"]),
        ("runs on", f"{answer['device']} in {answer['precision']}, threads: {answer['threads']}"),
        ("model", answer["model_id"]),
    ]
    if answer["file"] is None:
        print_table("Nothing to compile: eager PyTorch runs the network as it is", rows)
        return
    rows += [
        ("compiler took", f"{answer['compile_s']:.1f} s"),
        ("all took", f"{answer['seconds']:.1f} s, with loading and a check"),
        ("agreement", f"cosine {answer['agreement']:.6f} to float32"),
        ("size", _megabytes(answer["bytes"])),
    ]
    print_table("There already: nothing was compiled" if answer["was_there"] else "Compiled", rows)
    output.print(escape(answer["file"]))


# ---------------------------------------------------------------------------------------------- what is there


def _list(cache: EngineCache, config: ModelConfig, json_output: bool) -> None:
    rows = [_row(entry, config) for entry in cache.entries()]
    if json_output:
        print_json({"folder": str(cache.folder), "engines": rows})
        return
    if not rows:
        output.print(f"no compiled networks in {escape(str(cache.folder))}")
        return
    output.print(f"compiled networks in {escape(str(cache.folder))}:")
    for row in rows:
        output.print(escape(_described(row)))


def _described(row: Mapping[str, Any]) -> str:
    """One engine on two lines."""
    usable = "usable here" if row["usable"] else f"not usable here: {row['problem']}"
    if row["model_id"] is None:
        return f"{row['file']}\n    {_megabytes(row['bytes'])}; {usable}"
    return (
        f"{row['model_id']} by {row['backend']} ({row['version']}) in {row['precision']}, {row['input_size']}\n"
        f"    for {row['device']}; built {row['built']}; {_megabytes(row['bytes'])}; {usable}"
    )


def _row(entry: Entry, config: ModelConfig) -> dict[str, Any]:
    problem, about = (
        entry.problem,
        dict.fromkeys(("model_id", "backend", "version", "precision", "input_size", "device")),
    )
    built = None
    if entry.info is not None:
        key = entry.info.key
        problem = why_unusable(key, config)
        about = {
            "model_id": key.model_id,
            "backend": key.backend,
            "version": key.backend_version,
            "precision": key.precision,
            "input_size": f"{key.input_size[0]}x{key.input_size[1]}",
            "device": key.device,
        }
        built = datetime.fromtimestamp(entry.info.built_at / 1e9, timezone.utc).isoformat(" ", "seconds")
    place = {"file": entry.path.name, "bytes": entry.size, "built": built}
    return {**place, **about, "usable": not problem, "problem": problem}


def why_unusable(key: EngineKey, config: ModelConfig) -> str:
    """Why an engine for ``key`` would not be loaded on this machine with these settings; a clause, or nothing.

    Backend, device and precision are those of the engine.
    """
    from tscm_core.deploy.backend import CPU, CUDA
    from tscm_core.deploy.building import engine_key
    from tscm_core.deploy.device import device_name
    from tscm_core.deploy.load import choices, find_backend
    from tscm_core.deploy.weights import Weights

    device = next((device for device in (CPU, CUDA) if device_name(device) == key.device), None)
    if device is None:
        return f"it was compiled for {key.device}, which is not here"
    weights = Weights("", key.model_id, key.input_size, key.weights_sha256)
    asked = dataclasses.replace(config, backend=key.backend, device=device, precision=key.precision)
    try:
        backend = find_backend(key.backend)
    except DeployError as error:
        return str(error)
    ((_, target),) = choices(asked, weights)
    return backend.refusal(target, build=False) or key.difference(engine_key(backend, target, weights))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
