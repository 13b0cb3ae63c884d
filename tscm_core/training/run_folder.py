"""The folder of a training run: what is in it, and whether a run may begin, go on or begin anew there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from tscm_core.errors import ConfigError, ModelFileError, TscmError
from tscm_core.training.settings import TrainSettings
from tscm_core.training.settings_file import differences, load_settings

MAY_CHANGE = {
    "data.workers", "data.cache_mb", "trainer.log_every", "trainer.checkpoint_steps", "freeze.cache_folder",
}  # fmt: skip
"""What may differ when a run goes on: none of it changes what is learnt."""
LONGER = {"trainer.max_epochs", "trainer.max_steps", "trainer.patience"}
"""What may differ besides, unless the learning rate is a function of the length of the run."""


class RunFolder:
    """Names in the folder of a run, and the rows of its metrics."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.last = path / "last.ckpt"
        self.best = path / "best.safetensors"
        self.metrics = path / "metrics.jsonl"
        self.result = path / "result.json"
        self.tensorboard = path / "tensorboard"

    def prepare(self, settings: TrainSettings, *, resume: bool, overwrite: bool) -> None:
        """Make the folder ready for a run with ``settings``, which are written to ``config.yaml``.

        Raises:
            ConfigError: a run is there and neither option is given, or it has other settings.
            TscmError: the folder cannot be written.
        """
        if self.config.exists() and not (resume or overwrite):
            raise ConfigError(f"{self.path} holds a training run: --resume goes on with it, --overwrite begins anew")
        if resume and self.config.exists():
            self._check_same(settings)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if overwrite and not resume:
                self._clear()
            part = self.path / ".config.yaml.part"
            part.write_text(yaml.safe_dump(settings.to_dict(), sort_keys=False), encoding="utf-8")
            part.replace(self.config)
        except OSError as error:
            raise TscmError(f"the training run cannot be written to {self.path}: {error.strerror}") from error

    def write_result(self, result: dict[str, Any]) -> None:
        """The final figures; a run that has them is over."""
        part = self.path / ".result.json.part"
        part.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        part.replace(self.result)

    def read_result(self) -> dict[str, Any] | None:
        """The final figures; ``None`` while the run is not over."""
        try:
            result: dict[str, Any] = json.loads(self.result.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return result

    def append(self, row: dict[str, Any]) -> None:
        """One row of metrics."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def forget_after(self, step: int) -> None:
        """Take back rows of later steps, and one that was cut off: those steps will come again."""
        kept = [line for line in self._lines() if _step_of(line) <= step] if step else []
        part = self.path / ".metrics.jsonl.part"
        part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        part.replace(self.metrics)

    def _lines(self) -> list[str]:
        return self.metrics.read_text(encoding="utf-8").splitlines() if self.metrics.exists() else []

    def _check_same(self, settings: TrainSettings) -> None:
        allowed = MAY_CHANGE | (LONGER if settings.optim.schedule != "cosine" else set())
        try:
            theirs = load_settings(self.config)
        except ConfigError as error:
            raise ConfigError(f"the run cannot go on: {error}") from error
        changed = differences(settings, theirs)
        if other := [name for name in changed if name not in allowed]:
            raise ConfigError(
                f"the run in {self.path} has other settings: {', '.join(other)} differ; go on with "
                f"--config {self.config}, or begin anew elsewhere"
            )
        if set(changed) & LONGER:
            self.result.unlink(missing_ok=True)

    def _clear(self) -> None:
        for path in (self.result, self.last, self.best, self.metrics, self.config):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.tensorboard, ignore_errors=True)


def check_checkpoint(path: Path) -> None:
    """Refuse a file that is no checkpoint of ours; nothing in it is run.

    Raises:
        ModelFileError: it is damaged or of another kind.
    """
    from tscm_core.models.weight_files import read_pickle

    state = read_pickle(path, "a checkpoint of a training run")
    if not isinstance(state, dict) or "tscm" not in state:
        raise ModelFileError(f"weights file {path} is not a checkpoint of a training run")


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
