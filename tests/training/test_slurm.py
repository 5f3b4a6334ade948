"""A job that Slurm starts again, with a scontrol of our own."""

import pytest

from sizemix.runs.folder import RunFolder
from sizemix.training.slurm import begun_run, remember_run, requeue

_ARGUMENTS = ["sizes=mixed", "seed=1"]


@pytest.fixture
def job(monkeypatch, tmp_path):
    """A job step in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    return monkeypatch


@pytest.fixture
def begun(job, compose, tmp_path):
    """The run that the job has begun."""
    folder = RunFolder.create(tmp_path / "run", compose())
    remember_run(folder, _ARGUMENTS)
    return folder


def test_a_job_that_is_started_again_finds_its_run(job, begun):
    job.setenv("SLURM_RESTART_COUNT", "1")
    assert begun_run(_ARGUMENTS).path == begun.path


def test_a_job_that_starts_for_the_first_time_begins_a_new_run(job, begun):
    assert begun_run(_ARGUMENTS) is None


@pytest.mark.parametrize(
    ("name", "value"), [("SLURM_JOB_ID", "13"), ("SLURM_STEP_ID", "1")], ids=["another job", "another step"]
)
def test_another_job_or_step_does_not_find_it(job, begun, name, value):
    job.setenv("SLURM_RESTART_COUNT", "1")
    job.setenv(name, value)
    assert begun_run(_ARGUMENTS) is None


def test_another_command_does_not_find_it(job, begun):
    job.setenv("SLURM_RESTART_COUNT", "1")
    assert begun_run(["sizes=fixed", "seed=1"]) is None


def test_a_run_that_has_been_removed_is_begun_again(job, begun):
    job.setenv("SLURM_RESTART_COUNT", "1")
    begun.config_file.unlink()
    assert begun_run(_ARGUMENTS) is None


def test_a_folder_that_takes_no_record_is_told_and_does_not_stop_the_run(job, tmp_path, capsys):
    (tmp_path / ".sizemix").write_text("not a folder")
    remember_run(RunFolder(tmp_path / "run"), _ARGUMENTS)
    assert "it begins a new run: continue this one with resume=" in capsys.readouterr().err


def test_outside_slurm_nothing_is_kept(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    remember_run(RunFolder(tmp_path / "run"), _ARGUMENTS)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def scontrol(job, tmp_path):
    """Puts a scontrol on the path that notes its arguments and does what it is told."""

    def install(behind):
        program = tmp_path / "bin" / "scontrol"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n{behind}\n')
        program.chmod(0o755)
        job.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        return tmp_path / "asked"

    return install


def test_the_job_goes_back_into_the_queue(scontrol):
    asked = scontrol("exit 0")
    assert requeue() == "Slurm: job 12 is in the queue again and will continue by itself."
    assert asked.read_text() == "requeue 12\n"


def test_a_task_of_an_array_goes_back_alone(scontrol, job):
    asked = scontrol("exit 0")
    job.setenv("SLURM_ARRAY_JOB_ID", "7")
    job.setenv("SLURM_ARRAY_TASK_ID", "3")
    requeue()
    assert asked.read_text() == "requeue 7_3\n"


def test_a_refusal_is_told(scontrol):
    scontrol("echo 'Requested operation is presently disabled' >&2; exit 1")
    assert "got: Requested operation is presently disabled; start it again yourself" in requeue()


def test_a_machine_without_scontrol_is_told(job, tmp_path):
    job.setenv("PATH", str(tmp_path))
    assert "got: scontrol: No such file or directory; start it again yourself" in requeue()
