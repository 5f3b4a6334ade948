"""The page and its files, for whole sweeps and for those with holes."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from sizemix.comparison.comparing import compare
from sizemix.report.comparison import comparison_csv, comparison_page, findings_json, write_comparison
from sizemix.report.comparison_figures import cost_front, cost_points, course_figure, pictures


class _Links(HTMLParser):
    """Everything that a page would fetch."""

    def __init__(self):
        super().__init__()
        self.found = []
        self.open = []

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("src", "href", "srcset")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def page(comparison):
    return comparison_page(comparison, pictures(comparison))


def test_the_page_needs_nothing_else_and_every_picture_is_a_file_too(fixed_and_mixed, tmp_path):
    comparison = compare([fixed_and_mixed()])
    write_comparison(comparison, tmp_path / "out")
    html = (tmp_path / "out" / "comparison.html").read_text()
    links = _Links()
    links.feed(html)
    assert links.open == []
    assert len(links.found) == 5
    assert all(link.startswith("data:image/svg+xml;base64,") for link in links.found)
    assert "url(" not in html
    assert "mixed against fixed" in html
    assert "At 28&nbsp;px mixed is 1.8 points worse" in html
    assert "mixed is not shown to be no worse within 0.5 points at the base size of 28" in html
    assert "sizes.budget" in html
    assert "recipe.optimizer.lr" not in html, "only what differs"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    drawn = {"accuracy_by_size", "differences_by_size", "accuracy_by_compute", "accuracy_by_time", "accuracy_by_cost"}
    assert names == {"comparison.html", "comparison.csv", "findings.json", *(f"{name}.png" for name in drawn)}
    for name in drawn:
        with Image.open(tmp_path / "out" / f"{name}.png") as image:
            assert image.size[0] > 1000


def test_the_same_runs_give_the_same_page(fixed_and_mixed):
    sweep = fixed_and_mixed()
    assert page(compare([sweep])) == page(compare([sweep]))


def test_what_is_not_recorded_is_said(fixed_and_mixed):
    comparison = compare([fixed_and_mixed(predictions=False, new=False, elapsed=False)])
    names = [picture.name for picture in pictures(comparison)]
    assert names == ["accuracy_by_size", "differences_by_size", "accuracy_by_compute"]
    html = page(comparison)
    assert "no predictions_test.npz, so intervals come from seeds alone" in html
    assert "When each validation was is not recorded in these runs" in html
    assert "have not recorded the FLOPs of an image" in html


@pytest.mark.parametrize("missing", ["plan.csv", "metrics.csv", "predictions_test.npz"])
def test_a_page_is_made_of_what_is_there(fixed_and_mixed, missing):
    sweep = fixed_and_mixed()
    for folder in sweep.iterdir():
        (folder / missing).unlink()
    comparison = compare([sweep])
    assert missing in page(comparison)
    assert comparison.remarks[0].startswith("All runs: ")


def test_runs_that_take_no_part_are_named_with_their_reason(fixed_and_mixed):
    sweep = fixed_and_mixed(seeds=(0, 1, 2, 3))
    (sweep / "0-fixed-seed3" / "summary.json").write_text("{")
    (sweep / "1-mixed-seed3" / "summary.json").unlink()
    (sweep / "9-failed").mkdir()
    (sweep / "9-failed" / "failure.txt").write_text("<b>no memory</b>")
    html = page(compare([sweep]))
    assert re.search(r"Left out, damaged: <code>[^<]*0-fixed-seed3</code>: summary.json cannot be read", html)
    assert re.search(r"Left out, unfinished: <code>[^<]*1-mixed-seed3</code>: no summary.json", html)
    assert "&lt;b&gt;no memory&lt;/b&gt;." in html, "text of others is text"


def test_two_seeds_make_a_page_without_intervals(fixed_and_mixed):
    html = page(compare([fixed_and_mixed(seeds=(0, 1))]))
    assert "no interval can be given with 2 paired seeds" in html
    assert "▲ better" not in html.partition("How to read")[0]


def test_many_arms_have_names_in_every_legend(fake_run, tmp_path):
    for number in range(9):
        fake_run(f"{number}", {16: 0.7, 28: 0.8 + number / 100}, "sizes=mixed", f"recipe.optimizer.lr=0.{number + 1}")
    comparison = compare([tmp_path])
    html = page(comparison)
    assert "8 arms against lr=0.1" in html
    assert "+8.0 ○" in html, "one seed shows nothing"
    (legend,) = pictures(comparison)[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"lr=0.{number + 1}" for number in range(9)]


def test_the_table_has_a_row_an_arm_and_size(fixed_and_mixed):
    rows = list(csv.DictReader(io.StringIO(comparison_csv(compare([fixed_and_mixed()])))))
    assert [(row["arm"], row["image_size"]) for row in rows[:5]] == [
        ("fixed", "16"), ("fixed", "24"), ("fixed", "28"), ("fixed", "40"), ("mixed", "16"),
    ]  # fmt: skip
    assert rows[0]["baseline"] == "1"
    assert rows[0]["difference"] == ""
    assert rows[4]["verdict"] == "better"
    assert float(rows[4]["difference"]) == pytest.approx(float(rows[4]["top1"]) - float(rows[0]["top1"]))
    assert float(rows[4]["low"]) < float(rows[4]["difference"]) < float(rows[4]["high"])
    assert float(rows[4]["gflops"]) == pytest.approx(0.08 * 16**2 / 28**2)


def test_findings_are_there_for_programs(fixed_and_mixed):
    found = json.loads(json.dumps(findings_json(compare([fixed_and_mixed()]))))
    assert found["baseline"] == "fixed"
    assert [arm["name"] for arm in found["arms"]] == ["fixed", "mixed"]
    assert [run["seed"] for run in found["arms"][0]["runs"]] == [0, 1, 2]
    assert {one["image_size"]: one["verdict"] for one in found["by_size"]}[28] == "worse"
    assert found["findings"][0]["subject"] == "sizes"


def test_the_front_has_what_no_other_beats(fixed_and_mixed):
    front = cost_front(cost_points(compare([fixed_and_mixed()])))
    assert [(point.arm, point.image_size) for point in front] == [("mixed", 16), ("mixed", 24), ("fixed", 28)]


def test_the_course_of_training_is_drawn_seed_by_seed_and_as_a_mean(fixed_and_mixed):
    comparison = compare([fixed_and_mixed()])
    figure = course_figure(comparison, lambda point: point.compute, label="compute")
    lines = figure.axes[0].get_lines()
    assert len(lines) == 2 * (3 + 1) + 1, "three seeds and their mean an arm, and the baseline's final accuracy"
    latest = max(line.get_xdata().max() for line in lines[:-1])
    assert figure.axes[0].get_xlim()[1] > latest, "a point at the end is drawn whole"
    assert course_figure(comparison, lambda point: None, label="nothing") is None
