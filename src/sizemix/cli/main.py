"""`sizemix COMMAND ...`."""

import sys

USAGE = """usage: sizemix COMMAND ...

commands:
  train    train at mixed or fixed image sizes, then show accuracy by size; `sizemix train --help` lists all options
"""


def main() -> int:
    """Hands the arguments to the command."""
    command, *arguments = sys.argv[1:] or ["--help"]
    if command == "train":
        from sizemix.cli import train  # a command imports only what it needs

        sys.argv[0] = "sizemix train"
        return train.main(arguments)
    known = command in ("-h", "--help")
    print(USAGE if known else f"sizemix: expected a command (train), got {command}; see sizemix --help.",
          file=sys.stdout if known else sys.stderr)  # fmt: skip
    return 0 if known else 2


if __name__ == "__main__":
    sys.exit(main())
