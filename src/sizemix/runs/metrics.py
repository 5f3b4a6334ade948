"""metrics.csv: one row a logged step, each exactly once however often the run is resumed."""

import csv
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from sizemix.runs.tables import write_csv

_SECONDS_BETWEEN_WRITES = 10.0


class MetricsCsv(Logger):
    """A Lightning logger that writes one CSV file.

    Lightning's own deletes the file when a run is resumed. This one keeps the rows up to the step that training
    continues from, and drops those the interrupted run had logged beyond.

    Args:
        path: the file.

    Attributes:
        rows: figures by column name, as text, one row a step.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.rows: list[dict[str, str]] = _read(path)
        self._written_at = time.monotonic()

    @property
    def name(self) -> str:
        """What Lightning calls the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """One version: a run has one file."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the configuration stands beside the file."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Notes a row; figures of the same step share one."""
        figures = {name: f"{float(value):.6g}" for name, value in metrics.items()}
        if self.rows and self.rows[-1]["step"] == str(step):
            self.rows[-1].update(figures)
        else:
            self.rows.append({"step": str(step), **figures})

    def last(self, name: str) -> float | None:
        """The newest figure of that name, which a process before a resume may have logged; None where there is none."""
        return next((float(row[name]) for row in reversed(self.rows) if name in row), None)

    def drop_after(self, step: int) -> None:
        """Forgets the rows of steps from this one on, which a resumed run logs again."""
        self.rows = [row for row in self.rows if int(row["step"]) < step]

    def save(self) -> None:
        """Writes the file now and then; Lightning calls this after every row."""
        if time.monotonic() - self._written_at > _SECONDS_BETWEEN_WRITES:
            self.write()

    @rank_zero_only
    def write(self) -> None:
        """Writes the file; every checkpoint does this first, so that its rows are safe."""
        columns = ["step", "epoch", *sorted({name for row in self.rows for name in row} - {"step", "epoch"})]
        write_csv(self._path, columns, ([row.get(name) for name in columns] for row in self.rows))
        self._written_at = time.monotonic()

    def finalize(self, status: str) -> None:
        """Writes what is left."""
        self.write()


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{name: value for name, value in row.items() if value != ""} for row in csv.DictReader(file)]
