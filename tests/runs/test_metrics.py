import csv

from sizemix.runs.metrics import MetricsCsv


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_figures_of_one_step_share_a_row(tmp_path):
    metrics = MetricsCsv(tmp_path / "metrics.csv")
    metrics.log_metrics({"train/loss": 2.0, "epoch": 0}, step=9)
    metrics.log_metrics({"train/loss": 1.0, "epoch": 0}, step=19)
    metrics.log_metrics({"val/loss": 1.5, "epoch": 0}, step=19)
    metrics.write()
    assert rows(tmp_path / "metrics.csv") == [
        {"step": "9", "epoch": "0", "train/loss": "2", "val/loss": ""},
        {"step": "19", "epoch": "0", "train/loss": "1", "val/loss": "1.5"},
    ]


def test_a_resumed_run_keeps_earlier_rows_and_drops_those_it_logs_again(tmp_path):
    first = MetricsCsv(tmp_path / "metrics.csv")
    for step in (9, 19, 29):
        first.log_metrics({"loss": step}, step=step)
    first.write()
    second = MetricsCsv(tmp_path / "metrics.csv")
    second.drop_after(20)
    second.log_metrics({"loss": 290}, step=29)
    second.finalize("success")
    assert [(row["step"], row["loss"]) for row in rows(tmp_path / "metrics.csv")] == [
        ("9", "9"),
        ("19", "19"),
        ("29", "290"),
    ]


def test_saving_after_every_row_does_not_rewrite_the_file_every_time(tmp_path):
    metrics = MetricsCsv(tmp_path / "metrics.csv")
    metrics.log_metrics({"loss": 1.0}, step=0)
    metrics.save()
    assert not (tmp_path / "metrics.csv").exists()
    metrics.finalize("success")
    assert len(rows(tmp_path / "metrics.csv")) == 1
