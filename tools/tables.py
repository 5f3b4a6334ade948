"""Tables in documents, between markers that say which script makes them."""

from collections.abc import Sequence
from pathlib import Path


def write_table(document: Path, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Replaces what stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->` in a document by a table."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    head, rest = document.read_text().split(begin)
    _, tail = rest.split(end)
    lines = "\n".join(f"| {' | '.join(row)} |" for row in (columns, ("---",) * len(columns), *rows))
    document.write_text(f"{head}{begin}\n{lines}\n{end}{tail}")
