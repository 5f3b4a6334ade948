import os
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizemix.data.splits import SplitFile, hold_out, read_split, write_split
from sizemix.errors import UserError


def files_of(counts):
    return [(f"{name}/{number}.jpg", name) for name, count in counts.items() for number in range(count)]


@given(
    counts=st.dictionaries(st.sampled_from("abcdef"), st.integers(2, 60), min_size=2),
    fraction=st.floats(0.05, 0.9),
    seed=st.integers(0, 1000),
)
def test_every_class_gives_its_part_and_keeps_one(counts, fraction, seed):
    files = files_of(counts)
    drawn = hold_out(files, fraction, seed=seed, group_pattern=None)
    for name, count in counts.items():
        own = sum(path.startswith(name) for path in drawn)
        assert own == min(max(1, round(fraction * count)), count - 1)
    assert drawn == hold_out(files, fraction, seed=seed, group_pattern=None)


def test_another_seed_draws_other_files():
    files = files_of({"a": 50, "b": 50})
    assert hold_out(files, 0.2, seed=0, group_pattern=None) != hold_out(files, 0.2, seed=1, group_pattern=None)


@given(st.integers(0, 200))
def test_groups_stay_together_even_across_classes(seed):
    files = [(f"{name}/shot{shot}_{take}.jpg", name) for name in "ab" for shot in range(12) for take in range(4)]
    drawn = hold_out(files, 0.25, seed=seed, group_pattern=r"shot(\d+)_")
    takes = Counter(path.split("/shot")[1].split("_")[0] for path in drawn)
    assert takes
    assert set(takes.values()) == {8}, "both classes' four takes of a shot"
    assert len(drawn) == pytest.approx(0.25 * len(files), abs=8)


def test_every_alternative_of_a_pattern_names_groups():
    files = [(f"a/{kind}_{shot}.jpg", "a") for kind in ("IMG", "DSC") for shot in range(40)]
    drawn = hold_out(files, 0.25, seed=0, group_pattern=r"IMG_(\d+)|DSC_(\d+)")
    kinds = Counter(path[2:5] for path in drawn)
    assert kinds["IMG"] == kinds["DSC"] == 10, "files of one number stay together"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", "expected a regular expression"), ("nothing", "expected to match file names such as a/0.jpg")],
)
def test_a_pattern_that_cannot_group_is_refused(pattern, message):
    with pytest.raises(UserError, match=message):
        hold_out(files_of({"a": 3, "b": 3}), 0.3, seed=0, group_pattern=pattern)


def test_a_class_with_one_group_cannot_be_split():
    with pytest.raises(UserError, match=r"one for each part that is held out and one more, got too few of b"):
        hold_out(files_of({"a": 3, "b": 1}), 0.3, seed=0, group_pattern=None)


def test_a_split_is_read_as_it_was_written(tmp_path):
    names = ('a, "quoted"/ü.jpg', os.fsdecode(b"a/no-utf-8-\xe9.jpg"), "a/b.jpg")
    files = [SplitFile(name, "a", split) for name, split in zip(names, ("train", "val", "test"), strict=True)]
    write_split(files, tmp_path / "split.csv")
    assert read_split(tmp_path / "split.csv") == files


@pytest.mark.parametrize(
    "text", ["", "path,class\nx,y\n", "path,class,split\nx,y,train\n", "path,class,split\nx,y,dev\n"]
)
def test_what_is_no_split_is_refused(tmp_path, text):
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(UserError, match="split"):
        read_split(tmp_path / "split.csv")
