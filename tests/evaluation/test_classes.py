import pytest
import timm

from sizemix.errors import UserError
from sizemix.evaluation.classes import names_of_outputs, outputs_of_classes


def test_classes_are_found_by_name_wherever_they_stand():
    assert outputs_of_classes(["cat", "dog"], ["bird", "dog", "cat"], num_outputs=3) == [2, 1]


def test_as_many_classes_as_outputs_go_in_order_where_outputs_have_no_names_or_quite_others():
    assert outputs_of_classes(["cat", "dog"], None, num_outputs=2) == [0, 1]
    assert outputs_of_classes(["cat", "dog"], ["n01", "n02"], num_outputs=2) == [0, 1]


@pytest.mark.parametrize(
    ("classes", "outputs", "num_outputs", "said"),
    [
        (["cat", "dog"], None, 3, "expected images of 3 classes"),
        (["cat", "dogs"], ["bird", "cat", "dog"], 3, r"got dogs \(did you mean dog\?\) and 0 more"),
        (["x", "y"], ["bird", "cat", "dog"], 3, r"such as bird, cat, dog, got x and 1 more"),
        (["cat", "dogs"], ["cat", "dog"], 2, "got dogs"),
    ],
)
def test_classes_that_the_network_does_not_know_are_refused(classes, outputs, num_outputs, said):
    with pytest.raises(UserError, match=said):
        outputs_of_classes(classes, outputs, num_outputs=num_outputs)


def test_imagenet_networks_know_their_classes_and_others_do_not():
    names = names_of_outputs(timm.create_model("resnet18"), 1000)
    assert names[0] == "n01440764"
    assert len(set(names)) == 1000
    assert names_of_outputs(timm.create_model("test_resnet", num_classes=7), 7) is None
