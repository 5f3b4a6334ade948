import csv

from rich.console import Console

from sizemix.evaluation.curve import CurvePoint
from sizemix.report.curve import curve_table, draw_curve, write_curve_csv

_POINTS = [CurvePoint(16, 2000, 0.7, 0.8), CurvePoint(28, 2000, 0.85, 0.86)]
_WITHOUT = [CurvePoint(16, 2000, 0.7, None)]


def printed(table):
    console = Console(width=100)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_the_table_has_both_columns_or_says_why_not():
    shown = printed(curve_table(_POINTS, title="run"))
    assert all(part in shown for part in ("run", "16 px", "70.00%", "80.00%", "recalibrated"))
    without = printed(curve_table(_WITHOUT, title="run"))
    assert "recalibrated" not in without
    assert "no batch norm, so there is nothing to recalibrate" in without


def test_the_csv_file_has_a_row_a_size(tmp_path):
    write_curve_csv(_POINTS + _WITHOUT, tmp_path / "curve.csv")
    with (tmp_path / "curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"image_size": "16", "num_images": "2000", "top1": "0.7", "top1_recalibrated": "0.8"}
    assert rows[2]["top1_recalibrated"] == ""


def test_the_picture_is_drawn_with_and_without_recalibration(tmp_path):
    for name, points in (("both", _POINTS), ("one", _WITHOUT)):
        draw_curve(points, tmp_path / f"{name}.png", title=name, train_sizes=[16])
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
