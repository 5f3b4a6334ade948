"""Command lines of the commands that take options with dashes."""

import argparse
import sys
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Tells a mistake in one sentence, as all else of sizemix does, and not behind lines of usage."""

    def error(self, message: str) -> NoReturn:
        """Ends the process; a wrong option's code is that of any mistake."""
        print(f"sizemix: {message.removeprefix('argument ')}; see {self.prog} --help.", file=sys.stderr)
        sys.exit(2)
