"""The names of a run folder's files."""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sizemix.errors import UserError
from sizemix.runs.atomic import write_atomically

FAILURE = "failure.txt"


class EvaluationFiles:
    """What an evaluation leaves in a folder.

    curve.csv (accuracy by size), cost.csv (operations and time by size), curve.json (both, and the advice), curve.png,
    per_class.csv, predictions_test.npz and predictions_val.npz, and bn_bank.safetensors for networks with batch norm.
    `sizemix cascade` adds cascade.csv, cascade.json and cascade.png.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.curve_csv = self.path / "curve.csv"
        self.cost_csv = self.path / "cost.csv"
        self.curve_json = self.path / "curve.json"
        self.curve_png = self.path / "curve.png"
        self.per_class_csv = self.path / "per_class.csv"
        self.robustness_csv = self.path / "robustness.csv"
        self.test_predictions = self.path / "predictions_test.npz"
        self.val_predictions = self.path / "predictions_val.npz"
        self.bank_file = self.path / "bn_bank.safetensors"
        self.cascade_csv = self.path / "cascade.csv"
        self.cascade_json = self.path / "cascade.json"
        self.cascade_png = self.path / "cascade.png"


class RunFolder:
    """One run on disk.

    config.yaml (resolved), plan.csv and plan.png, metrics.csv, checkpoints/last.ckpt, previous.ckpt (the one before)
    and best.ckpt, the files of its evaluation, and summary.json, which exists once the run has finished; of image files
    also split.csv and broken.csv; failure.txt says why it has ended otherwise; with sizes.budget=memory
    fitting_batches.csv, with match=time step_seconds.csv.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.plan_csv = self.path / "plan.csv"
        self.plan_png = self.path / "plan.png"
        self.fitting_csv = self.path / "fitting_batches.csv"
        self.step_seconds_csv = self.path / "step_seconds.csv"
        self.split_csv = self.path / "split.csv"
        self.broken_csv = self.path / "broken.csv"
        self.metrics_csv = self.path / "metrics.csv"
        self.checkpoints = self.path / "checkpoints"
        self.last_checkpoint = self.checkpoints / "last.ckpt"
        self.previous_checkpoint = self.checkpoints / "previous.ckpt"
        self.evaluation = EvaluationFiles(path)
        self.lock_file = self.path / "run.lock"
        self.summary_file = self.path / "summary.json"
        self.failure_file = self.path / FAILURE

    @classmethod
    def create(cls, path: str | Path, config: DictConfig) -> "RunFolder":
        """A new run with its resolved configuration and, where it has none yet, a random run_id.

        It takes the place of a run that was refused before its training began.

        Raises:
            UserError: the folder holds a run already.
        """
        folder = cls(path)
        folder.path.mkdir(parents=True, exist_ok=True)
        if folder._never_began():
            folder._forget()
        try:
            folder.config_file.touch(exist_ok=False)  # claims it: another run may start in the same second
        except FileExistsError as error:
            raise UserError(
                f"{path} holds a run already; continue it with resume={path}, or start another in a folder of its own."
            ) from error
        config.run_id = config.run_id or secrets.token_hex(4)
        OmegaConf.resolve(config)
        folder.save_config(config)
        return folder

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """A run that exists.

        Raises:
            UserError: no run there.
        """
        folder = cls(path)
        if not folder.config_file.is_file():
            runs = sorted(str(file.parent) for file in folder.path.glob("*/config.yaml"))
            if runs:
                raise UserError(
                    f"expected one run folder, got {path}, which holds {len(runs)}; give one, as {runs[0]}."
                )
            raise UserError(f"expected a run folder with a config.yaml, got {path}; runs stand under outputs/.")
        return folder

    @property
    def finished(self) -> bool:
        """Whether the run has been evaluated and summarised."""
        return self.summary_file.exists()

    def check_finished(self) -> None:
        """Refuses a run that has not come to its end.

        Raises:
            UserError: with the reason, where the run has left one.
        """
        if not self.finished:
            why = ""
            if self.failure_file.is_file():
                why = f', which ended with "{self.failure_file.read_text(errors="replace").strip().rstrip(".")}"'
            raise UserError(f"expected a finished run, got {self.path}{why}; finish it with resume={self.path}.")

    def config(self) -> DictConfig:
        """The resolved configuration."""
        config = OmegaConf.load(self.config_file)
        assert isinstance(config, DictConfig)
        return config

    def save_config(self, config: DictConfig) -> None:
        """Replaces the configuration."""
        write_atomically(self.config_file, lambda file: file.write(OmegaConf.to_yaml(config).encode()))

    def save_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes the final figures, which marks the run as finished."""
        text = json.dumps(summary, indent=2) + "\n"
        write_atomically(self.summary_file, lambda file: file.write(text.encode()))

    def _never_began(self) -> bool:
        begun = (self.plan_csv, self.metrics_csv, self.checkpoints)
        return self.failure_file.exists() and not any(place.exists() for place in begun)

    def _forget(self) -> None:
        found_out = (self.split_csv, self.broken_csv, self.fitting_csv, self.step_seconds_csv)
        for file in (*found_out, self.failure_file, self.config_file):
            file.unlink(missing_ok=True)
