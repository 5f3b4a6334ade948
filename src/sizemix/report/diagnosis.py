"""What the doctor found, as text for the terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sizemix.diagnosis.finding import Finding

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def section_table(heading: str, findings: Sequence[Finding], *, width: int) -> Group:
    """A line a finding: what, what was found, and the verdict; columns align between sections of one width."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.width = width
    table.add_column(width=15)
    table.add_column(ratio=1, overflow="fold")
    table.add_column(width=8)
    for finding in findings:
        table.add_row(f"  {finding.subject}", Text(finding.text), Text(finding.verdict, _COLOURS[finding.verdict]))
    return Group(Text(heading, "bold"), table, "")


def conclusion(findings: Sequence[Finding]) -> Group:
    """The remedies, problems first, and a sentence that says whether a run can begin."""
    numbers = {kind: sum(finding.verdict == kind for finding in findings) for kind in ("problem", "warning")}
    lines: list[RenderableType] = []
    ill = sorted((one for one in findings if one.remedy is not None), key=lambda one: one.verdict != "problem")
    if ill:
        lines.append(Text("What to do", "bold"))
    for finding in ill:
        subject = Text(f"{finding.subject}: ", _COLOURS[finding.verdict])
        lines.append(Padding(subject + Text(finding.remedy or "", ""), (0, 0, 0, 2)))
    counted = " and ".join(f"{number} {kind}{'' if number == 1 else 's'}" for kind, number in numbers.items() if number)
    readiness = "the run would fail" if numbers["problem"] else "the run can begin"
    return Group(*lines, *([""] if ill else []), f"{(counted or 'Nothing wrong').capitalize()}: {readiness}.")
