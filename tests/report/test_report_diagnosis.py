from rich.console import Console

from sizemix.diagnosis.finding import Finding
from sizemix.report.diagnosis import conclusion, section_table

_WELL = Finding("python", "3.11.7")
_WARNED = Finding("photos", "small", "warning", "set smaller sizes.")
_ILL = Finding("images", "cannot be used", "problem", "expected a folder, got x.")


def printed(renderable, *, width=80):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_every_finding_is_a_line_with_its_verdict_within_the_width():
    long = Finding("packages", " ".join(["timm 1.0.31"] * 20))
    lines = printed(section_table("Versions", [_WELL, long, _ILL], width=60), width=60).splitlines()
    assert lines[0] == "Versions"
    assert lines[1].split() == ["python", "3.11.7", "ok"]
    assert lines[-2].split() == ["images", "cannot", "be", "used", "PROBLEM"], "seen without colours"
    assert all(len(line) <= 60 for line in lines)
    assert len(lines) > 6, "long texts wrap"


def test_what_a_terminal_shows_at_its_end_are_the_problems_and_what_to_do():
    shown = printed(conclusion([_ILL, _WELL, *[_WARNED] * 20, Finding("disk", "full", "problem", "free some.")]))
    assert [line.rstrip() for line in shown.splitlines()[-5:]] == [
        "Problems: to be solved before the run can begin",
        "  images: expected a folder, got x.",
        "  disk: free some.",
        "",
        "2 problems (images, disk) and 20 warnings: the run would fail.",
    ]
    assert "python" not in shown


def test_a_check_that_failed_several_times_is_named_once():
    shown = printed(conclusion([_ILL, _ILL]))
    assert shown.rstrip().endswith("2 problems (images): the run would fail.")


def test_warnings_alone_let_the_run_begin():
    assert printed(conclusion([_WARNED, _WARNED])).rstrip().endswith("2 warnings: the run can begin.")
    assert printed(conclusion([_WELL])) == "Nothing wrong: the run can begin.\n"
