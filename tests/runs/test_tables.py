import os

from sizemix.runs.tables import write_csv


def test_a_table_is_written_with_quotes_and_empty_cells_where_they_are_needed(tmp_path):
    write_csv(tmp_path / "new" / "table.csv", ["name", "figure"], [["a, b", 0.5], ["c", None]])
    assert (tmp_path / "new" / "table.csv").read_bytes() == b'name,figure\n"a, b",0.5\nc,\n'


def test_a_file_name_that_is_no_utf_8_keeps_its_bytes(tmp_path):
    write_csv(tmp_path / "table.csv", ["path"], [[os.fsdecode(b"caf\xe9.jpg")]])
    assert (tmp_path / "table.csv").read_bytes() == b"path\ncaf\xe9.jpg\n"
