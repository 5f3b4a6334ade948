import csv

from rich.console import Console

from sizemix.evaluation.cost import SizeCost
from sizemix.evaluation.scores import ClassAccuracy, CurvePoint, Scores
from sizemix.report.curve import (
    class_table,
    cost_table,
    curve_table,
    draw_curve,
    write_class_csv,
    write_cost_csv,
    write_curve_csv,
)


def scores(top1, *, balanced=None):
    return Scores(top1, 0.97, balanced or top1, 1.25, 0.05)


_POINTS = [
    CurvePoint(16, 2000, scores(0.7), scores(0.8), (0.78, 0.82)),
    CurvePoint(28, 2000, scores(0.85), scores(0.86), (0.84, 0.88)),
]
_WITHOUT = [CurvePoint(16, 2000, scores(0.7), None, (0.68, 0.72))]
_COSTS = [SizeCost(16, 0.02, 1.0, 0.9, 1.2, 800.0, 64), SizeCost(28, 0.0625, 2.5, 2.4, 2.6, 300.0, 32)]
_COUNTED = [SizeCost(16, 0.02)]


def printed(table):
    console = Console(width=100)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_the_table_has_both_columns_or_says_why_not():
    shown = printed(curve_table(_POINTS, _COSTS, title="run", num_classes=10))
    assert all(part in shown for part in ("run", "16 px", "70.00%", "80.00%", "recalibrated", "0.0625", "2.5"))
    assert max(map(len, shown.splitlines())) <= 80, "fits an ordinary terminal"
    without = printed(curve_table(_WITHOUT, _COUNTED, title="run", num_classes=10))
    assert "recalibrated" not in without
    assert "ms an image" not in without
    assert "no batch norm, so there is nothing to recalibrate" in without


def test_top5_is_shown_where_there_are_many_classes_and_the_rest_where_it_is_asked_for():
    few = printed(curve_table(_POINTS, _COSTS, title="run", num_classes=10))
    many = printed(curve_table(_POINTS, _COSTS, title="run", num_classes=11, detailed=True))
    assert "97.00%" in many
    assert "97.00%" not in few
    for part in ("1.250", "0.050"):
        assert part in many
        assert part not in few
    costs = printed(cost_table(_COSTS, measured_on="cpu"))
    assert all(part in costs for part in ("0.0625", "2.4 to 2.6", "300", "32"))
    assert "quartiles" not in printed(cost_table(_COUNTED, measured_on="cpu"))


def test_the_csv_file_has_a_row_a_size(tmp_path):
    write_curve_csv(_POINTS + _WITHOUT, tmp_path / "curve.csv")
    with (tmp_path / "curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "image_size": "16",
        "num_images": "2000",
        **{"top1": "0.7", "top5": "0.97", "balanced": "0.7", "loss": "1.25", "calibration_error": "0.05"},
        **{"top1_recalibrated": "0.8", "top5_recalibrated": "0.97", "balanced_recalibrated": "0.8"},
        **{"loss_recalibrated": "1.25", "calibration_error_recalibrated": "0.05"},
        **{"top1_low": "0.78", "top1_high": "0.82"},
    }
    assert rows[2]["top1_recalibrated"] == ""
    write_cost_csv(_COSTS + _COUNTED, tmp_path / "cost.csv")
    with (tmp_path / "cost.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (rows[1]["gflops"], rows[1]["latency_ms"], rows[2]["latency_ms"]) == ("0.0625", "2.5", "")


def test_the_picture_is_drawn_with_and_without_recalibration(tmp_path):
    for name, points, costs in (("both", _POINTS, _COSTS), ("one", _WITHOUT, _COUNTED)):
        draw_curve(points, costs, tmp_path / f"{name}.png", title=name, train_sizes=[16])
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_balanced_accuracy_is_shown_where_the_classes_differ_in_size():
    assert "balanced" not in printed(curve_table(_POINTS, _COSTS, title="run", num_classes=10))
    uneven = CurvePoint(16, 2000, scores(0.7, balanced=0.61), scores(0.8, balanced=0.62), (0.78, 0.82))
    shown = printed(curve_table([uneven], _COUNTED, title="run", num_classes=10))
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
