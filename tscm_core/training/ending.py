"""What ends a training run before its last epoch: a number of steps, or epochs that bring nothing.

A run that had ended when it was killed, just before its figures were written, ends again at once when it goes on.
"""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import EarlyStopping

from tscm_core.training.recall_check import MONITORED


class StopAfter(lightning.Callback):
    """Ends a run after some steps. Lightning's own limit counts epochs differently when a run goes on.

    Args:
        steps: of the optimiser.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """All steps may have been taken before the run went on."""
        self._check(trainer)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """The step was the last one, or not."""
        self._check(trainer)

    def _check(self, trainer: lightning.Trainer) -> None:
        if trainer.global_step >= self._steps:
            trainer.should_stop = True


class Patience(EarlyStopping):
    """Ends a run after some epochs without a better recall@1.

    Lightning's own takes its patience from the checkpoint: a run could not go on with more of it.

    Args:
        epochs: without a better one.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__(MONITORED, mode="max", patience=epochs, check_on_train_epoch_end=True)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What was counted, not what it is counted against."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """It may have run out before the run went on."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True
