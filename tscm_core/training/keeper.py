"""What a run leaves behind: the checkpoint to go on from, and the best network so far."""

from __future__ import annotations

import os
from typing import Any

import lightning
from lightning.pytorch.callbacks import Checkpoint

from tscm_core.checkpoints import save_network
from tscm_core.training.batches import TupleBatch
from tscm_core.training.recall_check import MONITORED, RecallCheck
from tscm_core.training.run_folder import RunFolder
from tscm_core.training.settings import TrainSettings
from tscm_core.training.task import DescriptorTask, task_of


class Keeper(Checkpoint):
    """Writes ``last.ckpt`` and ``best.safetensors``, each whole or not at all.

    Lightning calls callbacks of this class after all others, so that the state of these is in the checkpoint.
    """

    def __init__(self, kind: str, folder: RunFolder, settings: TrainSettings, recall: RecallCheck | None) -> None:
        self._kind, self._folder, self._settings, self._recall = kind, folder, settings, recall
        self.best: dict[str, float] = {}

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Whose checkpoint it is, and how the run was set."""
        checkpoint["tscm"] = {"kind": self._kind, "settings": self._settings.to_dict()}

    def state_dict(self) -> dict[str, Any]:
        """What was best so far."""
        return {"best": dict(self.best)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.best = dict(state_dict["best"])

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The first network counts too: training may make it worse."""
        if trainer.global_step == 0 and self._recall:
            self._compare(trainer, task_of(pl_module), 0)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: TupleBatch,
        batch_idx: int,
    ) -> None:
        """A checkpoint within the epoch, where no gradients are waiting and the end of the epoch is not at hand."""
        every, stepped = self._settings.trainer.checkpoint_steps, (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        last = batch_idx + 1 >= trainer.num_training_batches or trainer.should_stop
        if every and stepped and not last and trainer.global_step % every == 0:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Network first: a run that is killed between the two writes makes this network once more."""
        self._compare(trainer, task_of(pl_module), trainer.current_epoch + 1)
        self._save(trainer)

    def _compare(self, trainer: lightning.Trainer, task: DescriptorTask, epochs: int) -> None:
        """Without validation the newest network is the best."""
        figures = dict(self._recall.latest) if self._recall else {}
        if self._recall and self.best and figures[MONITORED] <= self.best[MONITORED]:
            return
        self.best = figures | {"epochs": epochs, "steps": trainer.global_step}
        if trainer.is_global_zero:
            save_network(task.network, self._folder.best, config=self._settings.to_dict(), metrics=self.best)

    def _save(self, trainer: lightning.Trainer) -> None:
        part = self._folder.last.with_name(".last.ckpt.part")
        trainer.save_checkpoint(part)
        if trainer.is_global_zero:
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(self._folder.last)
