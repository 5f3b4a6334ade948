"""Who started this process (the user, torchrun, Slurm, or rank 0 itself), and how it finds the run's other ranks.

torchrun and Slurm start a process for every rank; rank 0 composes the configuration and tells the others the run
folder. Otherwise Lightning starts further ranks on this machine, each with the run folder in its arguments.
"""

import os
import secrets
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sizemix.checkpointing.signals import hold_back, let_through
from sizemix.errors import UserError
from sizemix.training.lifeline import Lifeline

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from pytorch_lightning.plugins.environments import ClusterEnvironment

# Imports of torch and Lightning stand inside functions: most runs need none of this, and these take seconds.

_OWN = "SIZEMIX_LIFELINE"  # port and key, for ranks that rank 0 starts
_LAUNCHERS = frozenset(("TORCHELASTIC_RUN_ID", "SLURM_NTASKS"))


def join_ranks() -> Lifeline:
    """Connects this process with the run's others, if it is one of several already.

    Raises:
        UserError: Slurm's settings do not say which process is which, or the others do not answer.
    """
    if _OWN in os.environ:
        port, key = os.environ[_OWN].split(":")
        return Lifeline.join(
            int(os.environ["LOCAL_RANK"]),
            world_size=int(os.environ["WORLD_SIZE"]),
            address=("127.0.0.1", int(port)),
            key=key.encode(),
            patience_seconds=0,
        )
    if not os.environ.keys() & _LAUNCHERS:
        return Lifeline()
    from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    environment = cluster_environment()
    if isinstance(environment, TorchElasticEnvironment) and environment.world_size() > 1:
        return _join_under_torchrun(environment)
    if isinstance(environment, SLURMEnvironment):
        return _join_under_slurm(environment)
    return Lifeline()


def host_own_ranks(lifeline: Lifeline, world_size: int) -> None:
    """Lets the ranks join that Lightning is about to start from here, and tells how they end."""
    from pytorch_lightning.strategies.launchers import subprocess_script

    key = secrets.token_hex(16)
    port = lifeline.host(("127.0.0.1", 0), key=key.encode(), world_size=world_size)
    os.environ[_OWN] = f"{port}:{key}"

    def observe(processes: list[Any]) -> None:
        lifeline.watch(processes)
        let_through()

    hold_back()
    # Lightning's own observer ends this process by SIGKILL, without a word, up to five seconds later.
    subprocess_script._launch_process_observer = observe  # type: ignore[assignment]


def cluster_environment() -> "ClusterEnvironment":
    """What Lightning asks about the processes of a run.

    Slurm counts only where it has started several: one task, as in an interactive allocation, trains as without it.

    Raises:
        UserError: Slurm's settings do not say which process is which.
    """
    from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment

    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and SLURMEnvironment.detect():
        _check_slurm()
        # Lightning's requeueing saves inside a signal handler, maybe in the middle of a step.
        return SLURMEnvironment(auto_requeue=False)
    return LightningEnvironment()


def check_started(trainer: "pl.Trainer") -> None:
    """Compares the trainer's devices and nodes with the processes that were started.

    Raises:
        UserError: they differ.
    """
    from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    environment = cluster_environment()
    if isinstance(environment, TorchElasticEnvironment):
        started_by, devices = "torchrun", int(os.environ["LOCAL_WORLD_SIZE"])
    elif isinstance(environment, SLURMEnvironment):
        started_by, devices = "Slurm", int(os.environ["SLURM_NTASKS_PER_NODE"])
    elif trainer.num_nodes == 1:
        return
    else:
        raise UserError(
            f"trainer.num_nodes: expected 1, got {trainer.num_nodes}; for several machines start the run on each, by "
            "torchrun or srun."
        )
    nodes = environment.world_size() // devices
    if (trainer.num_nodes, trainer.num_devices) != (nodes, devices):
        raise UserError(
            f"trainer: expected num_nodes={nodes} and devices={devices}, as {started_by} started, got "
            f"num_nodes={trainer.num_nodes} and devices={trainer.num_devices}; "
            f"set trainer.num_nodes={nodes} trainer.devices={devices}."
        )


def _join_under_torchrun(environment: Any) -> Lifeline:
    """Rank 0 tells through the store that torchrun has already where it listens."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch's stubs do not export it

    host, rank, world_size = environment.main_address, environment.global_rank(), environment.world_size()
    store = TCPStore(host, environment.main_port, is_master=False, timeout=timedelta(minutes=10))
    name = f"sizemix/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if rank == 0:
        lifeline, key = Lifeline(), secrets.token_hex(16)
        port = lifeline.host(("", 0), key=key.encode(), world_size=world_size)
        store.set(name, f"{_own_address(host, environment.main_port)} {port} {key}")
        return lifeline
    address, port_there, key_there = store.get(name).decode().split()
    return Lifeline.join(rank, world_size=world_size, address=(address, int(port_there)), key=key_there.encode())


def _own_address(host: str, port: int) -> str:
    """The address by which this machine reaches another, or the other's name where both are one."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, family=socket.AF_INET, type=socket.SOCK_DGRAM)[
        0
    ]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(address)  # sends nothing
        own = str(probe.getsockname()[0])
    return host if own.startswith("127.") else own


def _join_under_slurm(environment: Any) -> Lifeline:
    """Lightning's port follows from the job; rank 0 listens on the next one."""
    rank, world_size = environment.global_rank(), environment.world_size()
    port = environment.main_port + 1
    key = f"{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}".encode()
    if rank == 0:
        lifeline = Lifeline()
        lifeline.host(("", port), key=key, world_size=world_size)
        return lifeline
    return Lifeline.join(rank, world_size=world_size, address=(environment.main_address, port), key=key)


def _check_slurm() -> None:
    if "SLURM_STEP_ID" not in os.environ:
        message = (
            f"Slurm: expected srun to start {os.environ['SLURM_NTASKS']} tasks, got one process; write srun before it."
        )
    elif "SLURM_NTASKS_PER_NODE" not in os.environ:
        message = "Slurm: expected --ntasks-per-node, got --ntasks alone; give srun or sbatch the tasks of each node."
    else:
        return
    if os.environ.get("SLURM_PROCID", "0") != "0":
        raise SystemExit(2)  # task 0 says it
    raise UserError(message)
