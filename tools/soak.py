"""Kills real runs at random moments, resumes them, and compares what they leave with runs that nobody touched.

    OMP_NUM_THREADS=1 python tools/soak.py --kills 72 --folder /tmp/soak

Every configuration (workers x processes x accumulation x recipe) trains once in peace and once under fire: killed by
SIGKILL (of all its processes or of one rank), SIGTERM, Ctrl-C or two signals, continued by `resume=`, and killed again.
Its weights and optimizer must then be equal bit for bit, its tables row for row, and every micro-batch that any of its
processes asked for must be the one of that number in the peaceful run. Exits with 1 at a difference, a wrong exit code,
a process that is left behind, or an end that does not come. On the CPU.
"""

import argparse
import csv
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from sizemix.data.appearance import Appearance
from sizemix.data.batches import Batch, InMemoryBatches
from sizemix.data.preprocessing import Preprocessing
from sizemix.data.request import EvalRequest, TrainRequest
from sizemix.data.sources import Split, fashion_mnist
from sizemix.runs import metrics

STEPS_BETWEEN_SAVES = 7
END_SECONDS = 120
OPTIONS = (
    "data._target_=soak.recorded_images",
    "data.train_images=400",
    "sizes.image_sizes=[8,12,16]",
    "sizes.shares=[0.4,0.3,0.3]",
    "sizes.base_size=12",
    "model.drop_path_rate=0.3",
    "recipe.base_batch_size=20",
    "evaluation.eval_sizes=[8,12]",
    "evaluation.calibration_images=40",
    "trainer.max_epochs=3",
    "trainer.log_every_n_steps=2",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
    f"checkpoint.every_steps={STEPS_BETWEEN_SAVES}",
)
RECIPES = {
    "plain": (),
    "averaging, strong augmentation": ("recipe.averaging_half_life=0.5", "augment=strong"),
    "bf16-mixed": ("trainer.precision=bf16-mixed",),
}


@dataclass(frozen=True)
class RecordedSplit:
    """A split in memory whose training requests are noted; a `LabelledSplit`."""

    split: Split
    records: Path

    @property
    def targets(self) -> torch.Tensor:
        """(num_images,) class numbers."""
        return self.split.targets

    @property
    def fingerprint(self) -> str:
        """That of the split itself."""
        return self.split.fingerprint

    def subset(self, rows: torch.Tensor) -> "RecordedSplit":
        """Only those images."""
        return RecordedSplit(self.split.subset(rows), self.records)

    def batches(self, *, appearance: Appearance, flip: bool, preprocessing: Preprocessing) -> "RecordedBatches":
        """As those of the split itself."""
        return RecordedBatches(
            self.split.batches(appearance=appearance, flip=flip, preprocessing=preprocessing), self.records
        )


class RecordedBatches:
    """Notes every training request in a file of its process; a `BatchSource`."""

    def __init__(self, batches: InMemoryBatches, records: Path) -> None:
        self.num_images = batches.num_images
        self._batches = batches
        self._records = records

    def train(self, request: TrainRequest) -> Batch:
        """The batch, behind its note."""
        asked = [request.image_size, request.num_repeats, request.seed]
        shown = [request.indices.tolist(), request.passes.tolist()]
        note = json.dumps([int(os.environ.get("LOCAL_RANK", "0")), request.item, *asked, *shown])
        with (self._records / f"{os.getpid()}.jsonl").open("a") as file:
            file.write(note + "\n")
        return self._batches.train(request)

    def eval(self, request: EvalRequest) -> Batch:
        """As it is."""
        return self._batches.eval(request)

    def at_sizes(self, requests: Sequence[TrainRequest | EvalRequest]) -> list[Batch]:
        """As they are: only evaluation asks for several sizes."""
        return self._batches.at_sizes(requests)


@dataclass(frozen=True)
class RecordedImages:
    """A few images of Fashion-MNIST; a `DataSource`."""

    name: str
    class_names: tuple[str, ...]
    train: RecordedSplit
    val: Split
    test: Split
    preprocessing: Preprocessing
    fingerprint: str


def recorded_images(*, train_images: int, crop_padding: int, records: str) -> RecordedImages:
    """What `data._target_` names here: few images, so that a run takes seconds, and notes of what is asked for."""
    metrics._SECONDS_BETWEEN_WRITES = 0.0  # so that rows stand beyond the checkpoint, as they do in longer runs
    whole = fashion_mnist(train_images=train_images, crop_padding=crop_padding)
    few = torch.arange(200)
    return RecordedImages(
        name=whole.name,
        class_names=whole.class_names,
        train=RecordedSplit(whole.train, Path(records)),
        val=whole.val.subset(few),
        test=whole.test.subset(few),
        preprocessing=whole.preprocessing,
        fingerprint=whole.fingerprint,
    )


@dataclass(frozen=True)
class Configuration:
    """One cell of the matrix."""

    workers: int
    processes: int
    accumulation: int
    recipe: str

    def __str__(self) -> str:
        return f"{self.workers} workers, {self.processes} processes, accumulation {self.accumulation}, {self.recipe}"

    @property
    def options(self) -> tuple[str, ...]:
        """What the command is given."""
        return (
            *OPTIONS,
            *RECIPES[self.recipe],
            f"data.num_workers={self.workers}",
            f"trainer.devices={self.processes}",
            f"trainer.accumulate_grad_batches={self.accumulation}",
        )


def matrix(only: str) -> list[Configuration]:
    """All configurations whose name contains a text."""
    cells = itertools.starmap(Configuration, itertools.product((0, 2), (1, 2), (1, 2), RECIPES))
    return [cell for cell in cells if only in str(cell)]


@dataclass
class RunUnderTest:
    """A run folder, the notes of its processes, and the process that works on it."""

    folder: Path
    configuration: Configuration
    process: "subprocess.Popen[str] | None" = None
    notes_before: frozenset[Path] = frozenset()
    output: Path = field(init=False)

    def __post_init__(self) -> None:
        self.records.mkdir(parents=True, exist_ok=True)
        self.output = self.folder.with_name(f"{self.folder.name}.output")

    @property
    def records(self) -> Path:
        """Where its processes note what they ask for."""
        return self.folder.with_name(f"{self.folder.name}-records")

    def start(self) -> None:
        """Begins the run, or continues it where it has begun."""
        arguments = [*self.configuration.options, f"+data.records={self.records}", f"hydra.run.dir={self.folder}"]
        if (self.folder / "config.yaml").exists():
            arguments = [f"resume={self.folder}"]
        self.notes_before = frozenset(self.records.iterdir())
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])  # for data._target_
        variables = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        with self.output.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sizemix.cli.main", "train", *arguments],
                cwd=self.folder.parent,
                env=os.environ | variables,
                start_new_session=True,
                stdout=output,
                stderr=output,
                text=True,
            )

    @property
    def pid(self) -> int:
        """Of rank 0, which is the number of the group too."""
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether rank 0 has not ended."""
        assert self.process is not None
        return self.process.poll() is None

    def step(self) -> int | None:
        """The newest step that this process has asked for; workers are a few ahead. None before the first."""
        files = set(self.records.iterdir()) - self.notes_before
        newest = [json.loads(lines[-2]) for file in files if len(lines := file.read_text().split("\n")) > 1]
        return max(int(note[1]) // self.configuration.accumulation for note in newest) if newest else None

    def saved_step(self) -> int:
        """Of the newest checkpoint; 0 before the first."""
        for name in ("last.ckpt", "previous.ckpt"):
            path = self.folder / "checkpoints" / name
            if path.exists():
                return int(torch.load(path, weights_only=True)["global_step"])
        return 0


@dataclass
class Hit:
    """How a run was killed, and where that found it."""

    kind: str
    where: str


def read_notes(file: Path) -> Iterator[list[object]]:
    """The whole lines of a process's notes: the last may have been cut off with the process."""
    for line in file.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)


class Marksman:
    """Kills a run at a moment and in a way that its generator draws.

    Args:
        draws: the generator.
        num_steps: of the run.
    """

    def __init__(self, draws: random.Random, num_steps: int) -> None:
        self._draws = draws
        self._num_steps = num_steps

    def kill(self, run: RunUnderTest, *, kills_to_come: int) -> Hit | None:
        """Returns how and where, None where the run has finished first.

        Args:
            run: has just been started.
            kills_to_come: behind this one, which need steps too.

        Raises:
            AssertionError: it does not end, ends with another code than it should, or leaves a process.
        """
        self._wait_for_moment(run, kills_to_come)
        if not run.running:
            code = wait_for_end(run)
            assert code == 0, f"untouched since it was resumed it ended with exit code {code}"
            return None
        step = run.step()
        kind, codes = self._shoot(run)
        code = wait_for_end(run)
        if code == 0:
            return None
        assert code in codes, f"{kind}: expected exit code {codes}, got {code}"
        assert_nobody_left(run.pid, patience_seconds=10 if "SIGKILL" in kind else 0)
        saved = run.saved_step()
        if step is None:
            where = "set-up"
        else:
            where = "evaluation" if saved == self._num_steps else f"step {step} (saved: {saved})"
        return Hit(kind, where)

    def _wait_for_moment(self, run: RunUnderTest, kills_to_come: int) -> None:
        if self._draws.random() < 0.1:  # anywhere, the start and what stands before it included
            time.sleep(self._draws.uniform(0, 8))
            return
        first = run.saved_step()
        beyond = int(1.1 * self._num_steps)  # in the evaluation
        aim = self._draws.randint(first, first + 2 * max(0, beyond - first) // (kills_to_come + 2))
        deadline = time.monotonic() + END_SECONDS
        while run.running and (run.step() or 0) < min(aim, self._num_steps - 1):
            assert time.monotonic() < deadline, "it does not train"
            time.sleep(0.005)
        time.sleep(self._draws.uniform(0, 0.05 if aim < self._num_steps else 1.5))

    def _shoot(self, run: RunUnderTest) -> tuple[str, tuple[int, ...]]:
        """Returns what it did, and the exit codes that are right for that."""
        kill, term, interrupt = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
        children = children_of(run.pid) if run.configuration.processes > 1 else []
        match self._draws.choices(["all", "one", "term", "ctrl-c", "two"], [45, 15, 15, 15, 10])[0]:
            case "one" if children:
                victim = self._draws.choice([run.pid, children[0]])
                send(victim, kill)
                return "SIGKILL to one rank", (-kill, 1)
            case "term":
                victim = self._draws.choice([run.pid, *children[:1]])
                send(victim, term)
                return "SIGTERM", (128 + term, -term)  # as a signal: no handler yet, nothing to save
            case "ctrl-c":
                send(-run.pid, interrupt)
                return "Ctrl-C", (128 + interrupt, -interrupt)
            case "two":
                send(-run.pid, term)
                time.sleep(self._draws.uniform(0.5, 2))
                send(-run.pid, term)
                return "two SIGTERM", (128 + term, -term)
        send(-run.pid, kill)
        return "SIGKILL", (-kill,)


def send(target: int, number: signal.Signals) -> None:
    """Signals a process, or a group by its negative number; it may have ended."""
    try:
        if target < 0:
            os.killpg(-target, number)
        else:
            os.kill(target, number)
    except ProcessLookupError:
        pass


def children_of(pid: int) -> list[int]:
    """The ranks that rank 0 has started: they stand before its workers."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def wait_for_end(run: RunUnderTest) -> int:
    """The exit code."""
    assert run.process is not None
    try:
        return run.process.wait(timeout=END_SECONDS)
    except subprocess.TimeoutExpired:
        send(-run.pid, signal.SIGKILL)
        raise AssertionError(f"it does not end in {END_SECONDS} s") from None


def assert_nobody_left(group: int, *, patience_seconds: float) -> None:
    """No process of the run is alive; workers of a killed process look every five seconds whether it still is."""
    deadline = time.monotonic() + patience_seconds
    while left := [pid for pid in alive_in(group) if pid != group]:
        if time.monotonic() > deadline:
            send(-group, signal.SIGKILL)
            raise AssertionError(f"{len(left)} processes are left")
        time.sleep(0.1)


def alive_in(group: int) -> list[int]:
    """Processes of a group that have not ended; who has ended and was not fetched by init does not count."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, its_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(its_group) == group and state != "Z":
                found.append(int(entry.name))
    return found


def differences(peaceful: RunUnderTest, killed: RunUnderTest) -> list[str]:
    """What is not equal, in words."""
    found = []
    one, other = (torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True) for run in (peaceful, killed))
    if one["global_step"] != other["global_step"]:
        found.append(f"{other['global_step']} instead of {one['global_step']} steps")
    if not equal(one["state_dict"], other["state_dict"]):
        found.append("weights")
    if not equal(one["optimizer_states"], other["optimizer_states"]):
        found.append("optimizer")
    if metrics_of(peaceful) != metrics_of(killed):
        found.append("metrics.csv")
    for name in ("plan.csv", "curve.csv", "per_class.csv"):
        if (peaceful.folder / name).read_bytes() != (killed.folder / name).read_bytes():
            found.append(name)
    expected, served = served_by(peaceful), served_by(killed)
    if expected != served:
        found.append("batches asked for")
    leftovers = [path.name for path in killed.folder.rglob(".*.partial")]
    return found + leftovers


def equal(one: object, other: object) -> bool:
    """Whether nested values and tensors are the same to the bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def metrics_of(run: RunUnderTest) -> list[dict[str, str]]:
    """The rows without what depends on the clock."""
    with (run.folder / "metrics.csv").open(newline="") as file:
        return [{name: cell for name, cell in row.items() if "throughput" not in name} for row in csv.DictReader(file)]


def served_by(run: RunUnderTest) -> set[str]:
    """Everything that any of its processes ever asked for: rank, number, size, copies, seed, images, passes.

    A set: a killed run asks again for what it had not saved. Two different requests of one number are two elements.
    """
    return {json.dumps(note) for file in run.records.iterdir() for note in read_notes(file)}


def soak(configuration: Configuration, folder: Path, *, kills: int, seed: int) -> tuple[list[Hit], str]:
    """Trains a configuration in peace and under fire; returns the kills and what they did."""
    peaceful, killed = (RunUnderTest(folder / name, configuration) for name in ("peaceful", "killed"))
    peaceful.start()
    if wait_for_end(peaceful):
        return [], f"the run that nobody touched failed, see {peaceful.output}"
    num_steps = peaceful.saved_step()
    marksman = Marksman(random.Random(f"{seed} {configuration}"), num_steps)
    hits: list[Hit] = []
    try:
        finished = False
        while len(hits) < kills and not finished:
            killed.start()
            hit = marksman.kill(killed, kills_to_come=kills - len(hits) - 1)
            finished = hit is None
            hits += [hit] if hit else []
        if not finished:
            killed.start()
            code = wait_for_end(killed)
            assert code == 0, f"resumed in peace it ended with exit code {code}"
    except AssertionError as error:
        return hits, f"{error}, see {killed.output}"
    found = differences(peaceful, killed)
    return hits, f"differs: {', '.join(found)}" if found else "equal"


def main() -> int:
    """Returns 1 at a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=72, help="over all configurations")
    parser.add_argument("--seconds", type=float, default=3600, help="begin no configuration after so many")
    parser.add_argument("--seed", type=int, default=0, help="of moments and kinds")
    parser.add_argument("--folder", type=Path, required=True, help="a new folder for the runs")
    parser.add_argument("--only", default="", help="configurations whose name contains this, as '2 processes'")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True)
    begun, console, cells = time.monotonic(), Console(width=160), matrix(arguments.only)
    table = Table("configuration", "kills", "where", "result", title="Killed and resumed against left in peace")
    total, results = 0, []
    for number, cell in enumerate(cells):
        kills = arguments.kills // len(cells) + (number < arguments.kills % len(cells))
        if time.monotonic() - begun > arguments.seconds or not kills:
            table.add_row(str(cell), "", "", "not run")
            continue
        hits, result = soak(cell, (arguments.folder / str(number)).resolve(), kills=kills, seed=arguments.seed)
        total += len(hits)
        results.append(result)
        console.print(f"{cell}: {', '.join(f'{hit.kind} at {hit.where}' for hit in hits)}: {result}", soft_wrap=True)
        kinds = "\n".join(hit.kind for hit in hits)
        table.add_row(str(cell), kinds, "\n".join(hit.where for hit in hits), result)
    console.print(table)
    good = sum(result == "equal" for result in results)
    console.print(f"{total} kills; {good} of {len(results)} configurations equal; {time.monotonic() - begun:.0f} s.")
    return 0 if results and good == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
