"""`sizemix pack`: turns a folder of photos into a few large files from which small crops are read fast."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from sizemix.cli.ending import exit_code_of
from sizemix.cli.parser import Parser
from sizemix.data.pack import faults
from sizemix.data.pack_writer import BROKEN_FILE, Packed, write_pack
from sizemix.errors import UserError
from sizemix.limits import available_cores

_EXAMPLES = 5  # broken files that are named

_DESCRIPTION = """Packs the photos of SRC, a folder as data=folder takes it, into DEST, for
sizemix train data=pack data.root=DEST. Interrupted, the same command goes on. JPEGs keep their very pixels where
jpegtran (of libjpeg-turbo) is on the path; all else is encoded. docs/pack.md describes the files."""


def main(arguments: Sequence[str]) -> int:
    """Packs or verifies what the arguments name; returns the exit code."""
    options = _parser().parse_args(arguments)
    command = _verify if options.verify else _pack
    return exit_code_of(lambda: command(options), interrupted="interrupted; the same command goes on.")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="sizemix pack",
        usage="sizemix pack SRC DEST [OPTION ...]\n       sizemix pack --verify DEST",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="SRC and DEST; with --verify, DEST")
    parser.add_argument("--quality", type=int, default=95, help="of JPEGs that are encoded, 1 to 100 (default: 95)")
    parser.add_argument("--val-dir", default="val", help="beside train/; none: nothing is (default: val)")
    parser.add_argument("--test-dir", default="test", help="beside train/; none: nothing is (default: test)")
    parser.add_argument("--workers", type=int, help="threads that encode (default: one a CPU core)")
    parser.add_argument("--allow-broken", action="store_true", help="go on with over 1 %% of broken files")
    parser.add_argument("--verify", action="store_true", help="check and decode every byte of a pack, write nothing")
    return parser


def _pack(options: argparse.Namespace) -> int:
    if len(options.folders) != 2:
        raise UserError(f"expected two folders, SRC and DEST, got {len(options.folders)}; see sizemix pack --help.")
    if not 1 <= options.quality <= 100:
        raise UserError(f"--quality: expected a number from 1 to 100, got {options.quality}.")
    source, destination = options.folders
    jpegtran = shutil.which("jpegtran")
    if jpegtran is None:
        print("jpegtran is not on the path: JPEGs are encoded anew. It comes with libjpeg-turbo.", flush=True)
    packed = write_pack(
        source,
        destination,
        quality=options.quality,
        jpegtran=jpegtran,
        val_dir=_folder_or_none(options.val_dir),
        test_dir=_folder_or_none(options.test_dir),
        allow_broken=options.allow_broken,
        num_threads=_workers(options),
    )
    print(_summary(packed, destination, options.quality))
    return 0


def _verify(options: argparse.Namespace) -> int:
    if len(options.folders) != 1:
        raise UserError(f"--verify: expected one folder, the pack, got {len(options.folders)}.")
    (folder,) = options.folders
    number, found = faults(folder, num_threads=_workers(options))
    for fault in found:
        print(f"sizemix: {fault}", file=sys.stderr)
    said = f"{len(found)} of them damaged" if found else "all of them whole"
    print(f"{folder}: {number:,} photos, {said}.")
    return 2 if found else 0


def _workers(options: argparse.Namespace) -> int:
    if options.workers is None:
        return max(1, int(available_cores()))
    if options.workers < 1:
        raise UserError(f"--workers: expected at least 1, got {options.workers}.")
    return int(options.workers)


def _folder_or_none(name: str) -> str | None:
    return None if name == "none" else name


def _summary(packed: Packed, folder: Path, quality: int) -> str:
    """What has been packed, in a few lines."""
    megabytes, before = packed.bytes / 1e6, packed.source_bytes / 1e6
    lines = [
        f"{folder}: {packed.photos:,} photos of {packed.classes} classes in {packed.seconds:.1f} s; "
        f"{megabytes:,.1f} MB, {megabytes / before:.2f} times the {before:,.1f} MB of their files",
        f"{packed.lossless:,} keep their very pixels, {packed.photos - packed.lossless:,} are encoded at quality "
        f"{quality}; half and quarter copies always are",
    ]
    if packed.broken:
        named = ", ".join(list(packed.broken)[:_EXAMPLES])
        more = f" and {len(packed.broken) - _EXAMPLES} more" if len(packed.broken) > _EXAMPLES else ""
        lines.append(f"{len(packed.broken)} broken files are left out, listed in {folder / BROKEN_FILE}: {named}{more}")
    return "\n".join(lines)
