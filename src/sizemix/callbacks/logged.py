"""Which steps are logged."""

import pytorch_lightning as pl


def is_logged(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether Lightning hands the loggers the figures of the step that ends; to be asked in on_train_batch_end.

    Lightning keeps whatever it is told at every step, and its bookkeeping is a good part of a small network's step.
    """
    if (batch_idx + 1) % trainer.accumulate_grad_batches:
        return False
    return trainer.should_stop or trainer.global_step % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
