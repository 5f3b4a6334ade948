"""Which outputs of a network are the classes of a data set."""

from collections.abc import Sequence
from difflib import get_close_matches

from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import nn

from sizemix.errors import UserError


def names_of_outputs(net: nn.Module, num_outputs: int) -> list[str] | None:
    """The WordNet numbers of a timm network's outputs, as n01440764; None for one that is no ImageNet network."""
    subset = infer_imagenet_subset(net)
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    return [info.index_to_label_name(number) for number in range(num_outputs)]


def outputs_of_classes(data_classes: Sequence[str], outputs: Sequence[str] | None, *, num_outputs: int) -> list[int]:
    """For each class of the data the network's output: by name where outputs have names, else one after the other.

    Args:
        data_classes: names of the data's classes, as its folders are called.
        outputs: names of the network's outputs; None where nobody knows them.
        num_outputs: of the network.

    Raises:
        UserError: a class that the network does not know, or outputs without names that are not as many as classes.
    """
    if outputs is not None and set(data_classes) <= set(outputs):
        place = {name: number for number, name in enumerate(outputs)}
        return [place[name] for name in data_classes]
    if len(data_classes) == num_outputs and (outputs is None or not set(data_classes) & set(outputs)):
        return list(range(num_outputs))
    if outputs is None:
        raise UserError(
            f"expected images of {num_outputs} classes, as many as the network has outputs, got {len(data_classes)}; "
            "name the folders as the network's classes, or give other images."
        )
    unknown = [name for name in data_classes if name not in set(outputs)]
    similar = get_close_matches(unknown[0], outputs, n=1)
    hint = f" (did you mean {similar[0]}?)" if similar else f", such as {', '.join(outputs[:3])}"
    raise UserError(
        f"expected folders named as the network's classes{'' if similar else hint}, got {unknown[0]}"
        f"{hint if similar else ''} and {len(unknown) - 1} more that it does not know; rename them."
    )
