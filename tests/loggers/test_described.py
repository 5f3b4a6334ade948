"""What a run says of itself leaves the machine, and its folders do not."""

import subprocess
from pathlib import Path

import pytest

from sizemix.loggers.described import described, git_commit


def test_folders_and_loggers_are_left_out():
    home = Path.home()
    config = {
        "data": {"root": f"{home}/photos", "eval_sizes": [16, 28], "files": ["/mnt/alice/cats", "~/dogs"]},
        "model": {"name": "timm/resnet18.a1_in1k", "checkpoint": None},
        "logger": {"additional": {"api_key": "secret"}},
        "seed": 3,
    }
    told = described(config)
    assert told.pop("versions")["torch"].startswith("2.")
    assert told == {
        "data": {"root": "photos", "eval_sizes": [16, 28], "files": ["cats", "dogs"]},
        "model": {"name": "timm/resnet18.a1_in1k", "checkpoint": None},
        "seed": 3,
    }


def test_the_home_folder_is_shortened_inside_other_text(monkeypatch):
    monkeypatch.setenv("HOME", "/home/alice")
    assert described({"path": "file:///home/alice/x"})["path"] == "file://~/x"


@pytest.fixture
def repository(tmp_path):
    def git(*arguments):
        author = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        command = ["git", "-C", str(tmp_path), *author, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "first")
    return git


def test_the_commit_says_whether_files_differ_from_it(repository, tmp_path):
    commit = repository("rev-parse", "HEAD")
    assert git_commit(tmp_path) == commit
    (tmp_path / "file").write_text("2")
    assert git_commit(tmp_path) == f"{commit}-dirty"


def test_without_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert git_commit(tmp_path) is None
