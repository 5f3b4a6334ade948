import csv

from rich.console import Console

from sizemix.report.plan import plan_table, write_plan_csv
from sizemix.sizes.budget import step_shapes
from sizemix.sizes.plan import plan_sizes
from sizemix.sizes.schedule import MixedSizes


def plan():
    shapes = step_shapes((16, 32), budget="D+", base_size=32, base_batch_size=10)
    return plan_sizes(
        MixedSizes((16, 32), (0.5, 0.5)), shapes=shapes, num_images=100, num_epochs=2, seed=0, base_size=32
    )


def test_the_table_shows_what_each_size_gets_and_what_the_whole_costs():
    console = Console(width=100)
    with console.capture() as capture:
        console.print(plan_table(plan()))
    shown = capture.get()
    assert "2 epochs, 20 steps, 200 images" in shown
    assert "50.0%" in shown
    assert "mean side 24.0 px, rms 25.3 px; compute 1.00 x the same images at 32 px" in shown


def test_a_size_whose_share_fills_no_step_is_named():
    shapes = step_shapes((8, 32), budget="B+", base_size=32, base_batch_size=10)
    schedule = MixedSizes((8, 32), (0.1, 0.9))
    small = plan_sizes(schedule, shapes=shapes, num_images=200, num_epochs=1, seed=0, base_size=32)
    console = Console(width=100)
    with console.capture() as capture:
        console.print(plan_table(small))
    assert "No step at 8 px" in capture.get()


def test_the_csv_file_has_a_row_a_step(tmp_path):
    planned = plan()
    write_plan_csv(planned, tmp_path / "plan.csv")
    with (tmp_path / "plan.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == planned.num_steps
    last = planned.spec(19)
    assert rows[19] == {
        "step": "19",
        "epoch": "1",
        "image_size": str(last.image_size),
        "global_batch_size": "10",
        "num_repeats": str(last.num_repeats),
        "position": "190",
    }
