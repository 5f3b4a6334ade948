import pytest
import pytorch_lightning as pl
from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment

from sizemix.errors import UserError
from sizemix.training.launch import check_started, cluster_environment, join_ranks

_TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
_SLURM = {
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "0",
    "SLURM_JOB_NAME": "train",
}


@pytest.fixture
def started(monkeypatch):
    return lambda variables: [monkeypatch.setenv(name, value) for name, value in variables.items()]


@pytest.fixture
def trainer():
    return pl.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, plugins=[LightningEnvironment()]
    )


@pytest.mark.parametrize(
    ("variables", "environment"),
    [
        ({}, LightningEnvironment),
        (_TORCHRUN, TorchElasticEnvironment),
        (_SLURM, SLURMEnvironment),
        (_SLURM | _TORCHRUN, TorchElasticEnvironment),
        (_SLURM | {"SLURM_JOB_NAME": "bash"}, LightningEnvironment),
        ({"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train"}, LightningEnvironment),
    ],
    ids=["by hand", "torchrun", "srun", "torchrun in a Slurm job", "a shell in a Slurm job", "one Slurm task"],
)
def test_who_started_the_processes_is_recognised(started, variables, environment):
    started(variables)
    assert type(cluster_environment()) is environment


def test_lightning_does_not_requeue_a_slurm_job_itself(started):
    started(_SLURM)
    environment = cluster_environment()
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue


@pytest.mark.parametrize("variables", [_TORCHRUN, _SLURM], ids=["torchrun", "srun"])
def test_devices_are_those_that_were_started(started, trainer, variables):
    started(variables)
    with pytest.raises(UserError, match=r"num_nodes=2 and devices=2.* got num_nodes=1 and devices=1; set "):
        check_started(trainer)


@pytest.mark.parametrize(
    ("missing", "message"), [("SLURM_STEP_ID", "write srun before"), ("SLURM_NTASKS_PER_NODE", "--ntasks-per-node")]
)
def test_slurm_settings_that_would_hang_are_refused(started, missing, message):
    started({name: value for name, value in _SLURM.items() if name != missing})
    with pytest.raises(UserError, match=message):
        join_ranks()


def test_only_the_first_slurm_task_speaks(started):
    started({"SLURM_NTASKS": "2", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_JOB_NAME": "train"})
    with pytest.raises(SystemExit):
        join_ranks()
