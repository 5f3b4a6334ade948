import importlib

import pytest


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("evaluate", ["RUN", "--max-latency-ms", "soon"], "--max-latency-ms: invalid float value: 'soon'"),
        ("predict", ["RUN"], "the following arguments are required: images"),
        ("export", ["RUN", "--format", "word"], "--format: invalid choice: 'word'"),
        ("cascade", [], "the following arguments are required: run"),
        ("compare", ["--margin"], "--margin: expected one argument"),
        ("dashboard", ["FOLDER", "--nonsense"], "unrecognized arguments: --nonsense"),
        ("pack", [], "the following arguments are required: FOLDER"),
    ],
)
def test_a_mistyped_command_line_is_told_in_one_sentence(capsys, command, arguments, said):
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"sizemix.cli.{command}").main(arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sizemix: {said}")
    assert line.endswith(f"; see sizemix {command} --help.")
