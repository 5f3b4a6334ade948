"""What the doctor found, as text for the terminal."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sizemix.diagnosis.finding import Finding, Verdict

_COLOURS: dict[Verdict, str] = {"ok": "green", "warning": "yellow", "problem": "bold red"}
_HEADINGS: dict[Verdict, str] = {
    "warning": "Warnings: the run works, but not as well as it could",
    "problem": "Problems: to be solved before the run can begin",
}


def section_table(heading: str, findings: Sequence[Finding], *, width: int) -> Group:
    """A line a finding: what, what was found, and the verdict; columns align between sections of one width."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.width = width
    table.add_column(width=15)
    table.add_column(ratio=1, overflow="fold")
    table.add_column(width=8)
    for finding in findings:
        table.add_row(f"  {finding.subject}", Text(finding.text), _verdict(finding.verdict))
    return Group(Text(heading, "bold"), table, "")


def conclusion(findings: Sequence[Finding]) -> Group:
    """What to do, and a sentence that says whether a run can begin.

    Problems come last: a terminal stands at its end, and warnings may fill it.
    """
    ill: dict[Verdict, list[Finding]] = {
        verdict: [one for one in findings if one.verdict == verdict] for verdict in ("warning", "problem")
    }
    remedies = [line for verdict, found in ill.items() if found for line in _remedies(verdict, found)]
    return Group(*remedies, _readiness(ill["problem"], ill["warning"]))


def _verdict(verdict: Verdict) -> Text:
    """A problem in capitals, as colours do not reach a file."""
    return Text(verdict.upper() if verdict == "problem" else verdict, _COLOURS[verdict])


def _remedies(verdict: Verdict, findings: Sequence[Finding]) -> Iterator[RenderableType]:
    yield Text(_HEADINGS[verdict], _COLOURS[verdict])
    for finding in findings:
        yield Padding(Text(f"{finding.subject}: ", "bold") + Text(finding.remedy or finding.text, ""), (0, 0, 0, 2))
    yield ""


def _readiness(problems: Sequence[Finding], warnings: Sequence[Finding]) -> Text:
    counted = [_counted(len(found), kind) for found, kind in ((problems, "problem"), (warnings, "warning")) if found]
    if problems:
        counted[0] += f" ({', '.join(dict.fromkeys(one.subject for one in problems))})"
        return Text(f"{' and '.join(counted)}: the run would fail.", _COLOURS["problem"])
    return Text(f"{(' and '.join(counted) or 'Nothing wrong')}: the run can begin.", _COLOURS["ok"])


def _counted(number: int, kind: str) -> str:
    return f"{number} {kind}{'' if number == 1 else 's'}"
