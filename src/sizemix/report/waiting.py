"""What a run says about waiting for its data."""

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table

from sizemix.callbacks.data_wait import Wait

_LARGE = 0.15  # of a step's time


def waiting_table(waits: Sequence[Wait], *, num_workers: int, cores: float) -> Group:
    """The share of waiting at every size, and what to do where it is large.

    Args:
        waits: one a size.
        num_workers: threads that make batches.
        cores: CPU cores for this process.
    """
    table = Table()
    table.add_column("image size", justify="right")
    table.add_column("time spent waiting", justify="right")
    for wait in waits:
        table.add_row(f"{wait.image_size} px", f"{wait.share:.1%}")
    remedy = _remedy(waits, num_workers=num_workers, cores=cores)
    return Group("Waiting for data, in training", table, *([] if remedy is None else [remedy]))


def _remedy(waits: Sequence[Wait], *, num_workers: int, cores: float) -> str | None:
    late = [f"{wait.image_size} px" for wait in waits if wait.share > _LARGE]
    if not late:
        return None
    if num_workers < int(cores):
        remedy = f"raise data.num_workers from {num_workers} to {int(cores)}, as there are so many CPU cores for it"
    else:
        remedy = "keep the photos in a pack (sizemix pack), choose lighter augmentation, or use more CPU cores"
    return f"The network waited for images at {', '.join(late)}: {remedy}."
