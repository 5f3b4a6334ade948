"""`sizemix export`: a run's network at one size, for programs that know nothing of sizemix."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sizemix.cli.ending import exit_code_of
from sizemix.cli.parser import Parser
from sizemix.errors import UserError

_DESCRIPTION = """Writes a run's network with the batch-norm statistics of a size baked in, config.json (input size,
mean, std, crop ratio, interpolation, class names) and a model card; reads the files again and compares answers."""
_EXAMPLES = """formats:
  timm    model.safetensors, for timm.create_model("local-dir:FOLDER", pretrained=True) and the Hugging Face hub
  onnx    model.onnx, for onnxruntime and others; needs pip install sizemix[onnx]
  torch   model.pt2, for torch.export.load, without the network's code"""


def main(arguments: Sequence[str]) -> int:
    """Exports what the arguments name; returns the exit code."""
    options = _parser().parse_args(arguments)
    return exit_code_of(lambda: _export(options))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="sizemix export",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", help="a run's folder")
    parser.add_argument("--format", choices=("timm", "onnx", "torch"), required=True)
    parser.add_argument("--image-size", type=int, help="pixels; the size that the run advised if left out")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: RUN/export/FORMAT-SIZE")
    parser.add_argument("--trust-target", action="store_true", help="build a network of your own, as the run names it")
    return parser


def _export(options: argparse.Namespace) -> None:
    from sizemix.inference.exporting.export import export

    if options.format != "timm":
        print("Tracing the network takes seconds to minutes.", flush=True)
    try:
        done = export(
            options.run,
            format=options.format,
            image_size=options.image_size,
            out=options.out,
            trust_target=options.trust_target,
        )
    except OSError as error:
        raise UserError(
            f"--out: expected a folder to write to, got {error.filename or options.out} ({error.strerror})."
        ) from error
    sizes = "" if len(done.checked.image_sizes) > 1 else f"; it takes images of {done.image_size} px alone"
    print(f"Written: {done.folder}/{', '.join(done.files)}, for {done.image_size} px ({done.checked}{sizes})")
    print(done.loading)
