"""CSV files that are either whole or not there."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from sizemix.runs.atomic import write_atomically


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Writes a table; None becomes an empty cell. File names in it keep their bytes, whether or not these are UTF-8.

    Args:
        path: the file; what stands there is replaced.
        header: names of the columns.
        rows: a cell for each of them.

    Raises:
        DiskFullError: no room for it; the old file stays.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomically(path, lambda file: file.write(text.getvalue().encode(errors="surrogateescape")))
