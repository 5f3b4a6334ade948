import csv

from rich.console import Console

from sizemix.evaluation.curve import ClassAccuracy, CurvePoint
from sizemix.report.curve import class_table, curve_table, draw_curve, write_class_csv, write_curve_csv

_POINTS = [CurvePoint(16, 2000, 0.7, 0.8, 0.7, 0.8), CurvePoint(28, 2000, 0.85, 0.86, 0.85, 0.86)]
_WITHOUT = [CurvePoint(16, 2000, 0.7, None, 0.7, None)]


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
    assert rows[0] == {
        "image_size": "16",
        "num_images": "2000",
        "top1": "0.7",
        "top1_recalibrated": "0.8",
        "balanced": "0.7",
        "balanced_recalibrated": "0.8",
    }
    assert rows[2]["top1_recalibrated"] == ""


def test_the_picture_is_drawn_with_and_without_recalibration(tmp_path):
    for name, points in (("both", _POINTS), ("one", _WITHOUT)):
        draw_curve(points, tmp_path / f"{name}.png", title=name, train_sizes=[16])
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_balanced_accuracy_is_shown_where_the_classes_differ_in_size():
    assert "balanced" not in printed(curve_table(_POINTS, title="run"))
    shown = printed(curve_table([CurvePoint(16, 2000, 0.7, 0.8, 0.61, 0.62)], title="run"))
    assert "balanced" in shown
    assert "62.00%" in shown


def test_the_class_table_begins_with_the_hardest_and_the_csv_has_all(tmp_path):
    classes = [ClassAccuracy(size, number, 10, number / 20) for size in (16, 28) for number in range(12)]
    names = [f"class {number}" for number in range(12)]
    shown = printed(class_table(list(reversed(classes)), names, image_size=28))
    assert "The 10 hardest of 12 classes at 28 px" in shown
    assert shown.index("class 0") < shown.index("class 1 ") < shown.index("class 9")
    assert "class 11" not in shown
    write_class_csv(classes, names, tmp_path / "per_class.csv")
    rows = (tmp_path / "per_class.csv").read_text().splitlines()
    assert rows[0] == "image_size,class,num_images,top1"
    assert rows[13] == "28,class 0,10,0.0"
    assert len(rows) == 25
