"""`sizemix compare`: what it prints, writes and refuses."""

import subprocess
import sys

import pytest

from sizemix.cli import compare


def test_it_prints_the_findings_and_where_the_page_is(fixed_and_mixed, tmp_path, monkeypatch, capsys):
    sweep = fixed_and_mixed()
    (sweep / "9-failed").mkdir()
    (sweep / "9-failed" / "failure.txt").write_text("no memory")
    monkeypatch.chdir(tmp_path)
    assert compare.main(["sweep"]) == 0
    text = capsys.readouterr().out
    assert "- At 28 px mixed is 1.8 points worse" in text
    assert "Left out, failed: sweep/9-failed: no memory." in text
    assert text.endswith("Written: comparison/comparison.html, comparison.csv, findings.json and pictures\n")
    assert (tmp_path / "comparison" / "comparison.html").exists()


def test_margin_baseline_and_folder_are_options(fixed_and_mixed, tmp_path, capsys):
    sweep = fixed_and_mixed()
    assert compare.main([str(sweep), "--margin", "3", "--baseline", "mixed", "--out", str(tmp_path / "there")]) == 0
    assert "fixed is no worse within 3.0 points at the base size" in capsys.readouterr().out
    assert (tmp_path / "there" / "findings.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "expected folders with runs, got nowhere, which is no folder"),
        (["."], "expected folders with runs, got ., which hold none"),
        (
            ["sweep/0-fixed-seed0"],
            "expected finished runs of at least two arms, got one (runs that differ in nothing but seed: 1)",
        ),
        (["sweep", "--margin", "half"], "--margin: expected percentage points between 0 and 100, got half"),
        (["sweep", "--margin", "-1"], "--margin: expected percentage points between 0 and 100, got -1"),
        (["sweep", "--baseline", "nothing"], "--baseline: expected one of the arms (fixed; mixed), got nothing"),
        (["sweep", "--out", "/proc/page"], "--out: expected a folder to write to, got /proc/page"),
    ],
)
def test_a_mistake_is_one_sentence(fixed_and_mixed, tmp_path, monkeypatch, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    if arguments[0] != ".":
        fixed_and_mixed(seeds=(0,))
    monkeypatch.chdir(tmp_path)
    assert compare.main(arguments) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"sizemix: {message}")
    assert len(errors.splitlines()) == 1


def test_help_and_reading_runs_do_without_torch(fixed_and_mixed, tmp_path):
    sweep = fixed_and_mixed(seeds=(0,))
    program = (
        "import sys; from sizemix.cli import compare; compare.main([{!r}, '--out', {!r}]); "
        "assert not {{'torch', 'pytorch_lightning'}} & set(sys.modules)"
    ).format(str(sweep), str(tmp_path / "out"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    program = "import sys; from sizemix.cli.main import main; sys.argv = ['sizemix', 'compare', '--help']; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "--baseline ARM" in done.stdout
