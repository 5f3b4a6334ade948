import csv
import re

import pytest
from rich.console import Console

from sizemix.report.plan import draw_plan, plan_figure, plan_table, write_plan_csv, write_sizes_csv
from sizemix.sizes.plan import plan_run
from sizemix.sizes.progressive import stages
from sizemix.sizes.schedule import MixedSizes
from sizemix.sizes.spending import MeasuredStep


def plan(cost=None, num_epochs=2):
    return plan_run(MixedSizes((16, 32), (0.5, 0.5)), budget="D+", base_size=32, base_batch_size=10, num_images=100,
                    num_epochs=num_epochs, seed=0, cost=cost)  # fmt: skip


def shown(planned, *, width=80, **options):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(plan_table(planned, **options))
    return capture.get()


def test_the_table_shows_what_each_size_gets_and_what_the_whole_costs():
    text = shown(plan())
    assert "2 epochs, 20 steps, 200 images" in text
    rows = [line.split() for line in text.splitlines() if " px " in line and line.split()[0].isdecimal()]
    assert rows == [
        ["16", "px", "10", "4", "10", "5.0", "50.0", "50.0", "50.0"],
        ["32", "px", "10", "1", "10", "5.0", "50.0", "50.0", "50.0"],
    ]
    assert "mean side 24.0 px, rms 25.3 px" in text
    assert "compute: 1.00 x the same images at 32 px" in text
    assert "FLOPs" not in text
    assert "Most images" not in text, "the sizes stay the same"


def test_costs_in_flops_are_shown_for_an_image_and_for_the_run():
    text = shown(plan(cost={16: 3e9, 32: 12e9}), costs_are_flops=True)
    assert re.search(r"16 px .* 50.0 +1$", text, re.MULTILINE)
    assert re.search(r"32 px .* 50.0 +4$", text, re.MULTILINE)
    assert "compute: 2.4e+12 FLOPs in all, 1.00 x the same images at 32 px" in text


def test_measured_steps_give_the_expected_time_and_the_memory():
    measured = {16: MeasuredStep(0.25, 2**30), 32: MeasuredStep(6.0, 3 * 2**30)}
    text = shown(plan(), measured=measured)
    assert "expected time: 0:01:02" in text
    assert re.search(r"16 px .* 250 +1.0$", text, re.MULTILINE)
    assert re.search(r"32 px .* 6,000 +3.0$", text, re.MULTILINE)


@pytest.mark.parametrize("measured", [None, MeasuredStep(1.2345, 75 * 2**30)])
def test_the_table_of_a_long_run_fits_into_80_columns(measured):
    sizes = (128, 160, 320)
    planned = plan_run(MixedSizes(sizes, (0.3, 0.3, 0.4)), budget="B+", base_size=160, base_batch_size=256, seed=0,
                       num_images=1_281_167, num_epochs=100, cost={size: 1e6 * size**2 for size in sizes})  # fmt: skip
    measured = measured and dict.fromkeys(sizes, measured)
    assert "\u2026" not in shown(planned, costs_are_flops=True, measured=measured), "cut off"


def test_sizes_that_change_with_the_epochs_are_told_in_their_order():
    growing = plan_run(stages(base_size=32, num_epochs=6, image_sizes=[16, 24, 32]), budget="constant", base_size=32,
                       base_batch_size=10, seed=0, num_images=100, num_epochs=6)  # fmt: skip
    assert "Most images by epoch: 16 px in 1 to 2, 24 px in 3 to 4, 32 px in 5 to 6" in shown(growing)


def test_a_size_whose_share_fills_no_step_is_named():
    small = plan_run(MixedSizes((8, 32), (0.1, 0.9)), budget="B+", base_size=32, base_batch_size=10, num_images=200,
                     num_epochs=1, seed=0)  # fmt: skip
    assert "No step at 8 px" in shown(small)


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


def test_the_csv_file_of_sizes_has_the_figures_of_the_table_unrounded(tmp_path):
    measured = {16: MeasuredStep(0.25, None), 32: MeasuredStep(6.0, None)}
    planned = plan(cost={16: 3e9, 32: 12e9})
    write_sizes_csv(planned, tmp_path / "sizes.csv", costs_are_flops=True, measured=measured)
    with (tmp_path / "sizes.csv").open(newline="") as file:
        small, base = csv.DictReader(file)
    assert (small["image_size"], small["global_batch_size"], small["num_repeats"]) == ("16", "10", "4")
    assert (base["steps"], base["images"], base["compute_share"]) == ("10", "100", "0.5")
    assert (base["forward_gflops"], base["step_seconds"], base["peak_bytes"]) == ("4.0", "6.0", "")


def test_the_picture_shows_every_size_over_the_epochs(tmp_path):
    figure = plan_figure(plan(), title="test")
    above, below = figure.axes
    labels = [text.get_text() for text in above.get_legend().get_texts()]
    assert labels == ["32 px", "16 px"]
    small, large = (part.get_data() for part in above.patches)
    assert (small.baseline.tolist(), small.values.tolist(), large.values.tolist()) == ([0, 0], [50, 50], [100, 100])
    assert below.lines[0].get_ydata().tolist() == [24, 24, 24]
    assert below.get_ylim()[1] > 32, "no line lies on the frame"
    once = plan_figure(plan(num_epochs=1), title="test").axes[1].lines[0]
    assert (once.get_xdata().tolist(), once.get_ydata().tolist()) == ([0.5, 1.5], [24, 24])
    draw_plan(plan(), tmp_path / "plan.png", title="test")
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
