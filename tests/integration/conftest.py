"""Runs in processes of their own."""

import os
import signal
import subprocess

import pytest


@pytest.fixture
def open_process():
    """Starts a program in a session of its own, so that it can be killed with all its processes.

    None outlives its test: where one fails, its run would train on, some for 2,000 epochs.
    """
    opened = []

    def start(command, **options):
        opened.append(subprocess.Popen(command, start_new_session=True, **options))
        return opened[-1]

    yield start
    for process in opened:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
