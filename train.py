"""Trains a classifier at mixed image sizes; `python train.py --help` explains."""

import sys

from sizemix.cli import train
from sizemix.cli.pipe import reader_may_leave

if __name__ == "__main__":
    with reader_may_leave():
        sys.exit(train.main(sys.argv[1:]))
