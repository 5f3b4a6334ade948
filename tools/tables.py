"""Tables in documents, between markers that say which script makes them."""

from collections.abc import Sequence
from pathlib import Path


def check_place(document: Path, name: str) -> None:
    """Before anything is measured.

    Raises:
        ValueError: a document without the markers of that table.
    """
    text = document.read_text()
    if any(text.count(marker) != 1 for marker in _markers(name)):
        raise ValueError(f"{document}: expected the lines {' and '.join(_markers(name))}, each once")


def write_table(document: Path, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Replaces what stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->` in a document by a table."""
    begin, end = _markers(name)
    head, rest = document.read_text().split(begin)
    _, tail = rest.split(end)
    lines = "\n".join(f"| {' | '.join(row)} |" for row in (columns, ("---",) * len(columns), *rows))
    document.write_text(f"{head}{begin}\n{lines}\n{end}{tail}")


def _markers(name: str) -> tuple[str, str]:
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
