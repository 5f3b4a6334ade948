from collections.abc import Callable

import pytest
import pytorch_lightning as pl


@pytest.fixture
def quiet_trainer() -> Callable[..., pl.Trainer]:
    """Makes a Trainer of one epoch on the CPU that writes and shows nothing; options are the Trainer's."""

    def make(*callbacks: pl.Callback, max_epochs: int = 1, **options: int) -> pl.Trainer:
        return pl.Trainer(
            callbacks=list(callbacks),
            max_epochs=max_epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **options,
        )

    return make
