"""Trains a classifier at mixed image sizes; `python train.py --help` explains."""

import sys

from sizemix.cli import train

if __name__ == "__main__":
    sys.exit(train.main(sys.argv[1:]))
