import json
from pathlib import Path

import numpy as np
import pytest
import torch

import sizemix
from sizemix.cli.cascade import main
from sizemix.errors import UserError
from sizemix.evaluation.cascade import CascadePlan, answering_stages
from sizemix.evaluation.predictions import Predictions
from sizemix.inference.loading import load
from sizemix.training.assembly import assemble


def test_it_answers_as_the_pure_simulation_says(photo_run, photos):
    kept = Predictions.load(photo_run.evaluation.test_predictions)
    names = assemble(photo_run.config(), photo_run).datamodule.dataset.test.paths
    ordered = np.sort(kept.best.confidence[0])
    limit = float(ordered[len(ordered) // 2 - 1 : len(ordered) // 2 + 1].mean())  # of no image
    classifier = load(photo_run.path, image_size=96)
    cascade = sizemix.Cascade(classifier, image_sizes=(64, 96), thresholds=(limit,))
    found = cascade.predict([photos / name for name in names], batch_size=5)
    stages = answering_stages(kept.best.confidence[:1], (limit,))
    assert {0, 1} == set(stages.tolist()), "some images go on"
    assert [one.image_size for one in found] == [(64, 96)[stage] for stage in stages]
    assert [one.class_number for one in found] == kept.best.predicted[stages, np.arange(len(names))].tolist()
    expected = kept.best.confidence[stages, np.arange(len(names))]
    assert np.allclose([one.probability for one in found], expected, atol=1e-6)
    assert [one.name for one in found] == [str(photos / name) for name in names]
    assert classifier.image_size == 96, "the classifier is as it was"


def test_images_without_a_file_keep_their_numbers(small_run):
    cascade = sizemix.Cascade(load(small_run.path), image_sizes=(12, 16, 20), thresholds=(1.1, 1.1))
    pictures = [torch.full((1, 28, 28), value, dtype=torch.uint8) for value in (0, 90, 200)]
    found = cascade.predict(iter(pictures))
    assert [(one.name, one.image_size) for one in found] == [(f"image {at}", 20) for at in range(3)]
    assert cascade.predict([]) == []


@pytest.mark.parametrize("path", ["cat.jpg", Path("cat.jpg")])
def test_one_path_is_not_taken_for_several(small_run, path):
    classifier = load(small_run.path)
    for predicts in (classifier, sizemix.Cascade(classifier, image_sizes=(12, 16), thresholds=(0.5,))):
        with pytest.raises(UserError, match=r"expected several images, got the one path cat\.jpg; put it into a list"):
            predicts.predict(path)


def test_the_chosen_cascade_is_loaded_and_one_that_does_not_pay_says_so(copied):
    with pytest.raises(UserError, match=r"`sizemix cascade .*` chooses one"):
        sizemix.Cascade.load(copied.path)
    assert main([str(copied.path)]) == 0
    file = copied.evaluation.cascade_json
    told = json.loads(file.read_text()) | {"pays": True}
    file.write_text(json.dumps(told))
    cascade = sizemix.Cascade.load(copied.path)
    assert cascade.plan == CascadePlan(tuple(told["image_sizes"]), tuple(told["thresholds"]))
    assert cascade.classifier.image_size == told["image_sizes"][0]
    file.write_text(json.dumps(told | {"pays": False, "sentence": "it does not pay"}))
    with pytest.warns(UserWarning, match="it does not pay"):
        sizemix.Cascade.load(copied.path)
    file.write_text("{}")
    with pytest.raises(UserError, match="expected what `sizemix cascade` writes"):
        sizemix.Cascade.load(copied.path)
