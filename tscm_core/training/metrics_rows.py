"""Figures of a run as it goes: rows in ``metrics.jsonl``, and a line after each epoch for whoever watches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import lightning

from tscm_core.training.batches import TupleBatch
from tscm_core.training.recall_check import RecallCheck
from tscm_core.training.run_folder import RunFolder


class MetricsRows(lightning.Callback):
    """A row with losses every few steps, one with recall after each epoch; that one is also said aloud.

    Args:
        folder: of the run.
        every: steps between rows.
        recall: where figures of recall come from; ``None``: there are none.
        say: takes a line for the user.
    """

    def __init__(self, folder: RunFolder, every: int, recall: RecallCheck | None, say: Callable[[str], None]) -> None:
        self._folder, self._every, self._recall, self._say = folder, every, recall, say
        self._images, self._seconds, self._since = 0, 0.0, 0.0
        self._loss_sum, self._losses = 0.0, 0

    @property
    def images_per_s(self) -> float | None:
        """Images through the network and back per second of training; mining and validation are not in it."""
        return round(self._images / self._seconds, 1) if self._seconds else None

    def state_dict(self) -> dict[str, Any]:
        """The losses of the epoch that goes on."""
        return {"loss_sum": self._loss_sum, "losses": self._losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._loss_sum, self._losses = state_dict["loss_sum"], state_dict["losses"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Rows that an interrupted run wrote after its checkpoint are taken back."""
        if trainer.is_global_zero:
            self._folder.forget_after(trainer.global_step)
        if trainer.global_step == 0 and self._recall:
            self._write(trainer, {"epoch": 0, "step": 0} | self._recall.latest)
            self._tell(trainer, f"before training: {_shown(self._recall.latest)}")

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: TupleBatch, batch_idx: int
    ) -> None:
        """The clock starts with the first batch; the loading of all others counts."""
        self._since = self._since or time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: TupleBatch,
        batch_idx: int,
    ) -> None:
        """Count, and write a row if it is time."""
        now = time.perf_counter()
        self._images += int((batch.rows >= 0).sum()) * trainer.world_size
        self._seconds += now - self._since
        self._since = now
        every = trainer.accumulate_grad_batches
        # Lightning has divided the loss, so that gradients of several batches add up to a mean.
        self._loss_sum, self._losses = self._loss_sum + float(outputs["loss"]) * every, self._losses + 1
        stepped = (batch_idx + 1) % every == 0
        if stepped and trainer.global_step % self._every == 0:
            losses = {
                name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("loss/")
            }
            rate = {"lr": trainer.optimizers[0].param_groups[0]["lr"], "images_per_s": self.images_per_s}
            self._write(trainer, {"epoch": trainer.current_epoch + 1, "step": trainer.global_step} | losses | rate)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """What the epoch achieved."""
        recall = self._recall.latest if self._recall else {}
        epoch, loss = trainer.current_epoch + 1, self._loss_sum / max(1, self._losses)
        self._write(trainer, {"epoch": epoch, "step": trainer.global_step, "epoch_loss": loss} | recall)
        self._tell(trainer, f"epoch {epoch}: loss {loss:.4f}, {_shown(recall)}{self.images_per_s or 0:g} images/s")
        self._loss_sum, self._losses, self._since = 0.0, 0, 0.0

    def _write(self, trainer: lightning.Trainer, row: dict[str, Any]) -> None:
        if trainer.is_global_zero:
            self._folder.append(row)

    def _tell(self, trainer: lightning.Trainer, line: str) -> None:
        if trainer.is_global_zero:
            self._say(line)


def _shown(figures: dict[str, float]) -> str:
    return "".join(f"{name} {value:.3f}, " for name, value in figures.items())
