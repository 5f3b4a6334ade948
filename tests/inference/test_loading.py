import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import sizemix
from sizemix.errors import UserError
from sizemix.evaluation.predictions import Predictions
from sizemix.inference.loading import load
from sizemix.models.bank import BatchNormBank, weights_digest
from sizemix.models.batchnorm import batch_norm_statistics, batch_norms, measured_statistics
from sizemix.training.assembly import assemble


def evaluated_images(folder):
    """The run's datamodule, ready to serve."""
    run = assemble(folder.config(), folder)
    run.datamodule.trainer = run.trainer
    return run.datamodule


def test_at_every_size_it_answers_as_the_evaluation_did(small_run):
    kept = Predictions.load(small_run.evaluation.test_predictions)
    classifier = load(small_run.path)
    datamodule = evaluated_images(small_run)
    assert isinstance(classifier, nn.Module)
    assert (classifier.image_sizes, classifier.class_names[0]) == ((12, 16, 20), "T-shirt/top")
    for at, size in enumerate(kept.image_sizes):
        classifier.set_image_size(size)
        with torch.no_grad():
            logits = torch.cat([classifier(batch.images) for batch in datamodule.eval_batches("test", size)])
        assert np.array_equal(logits.argmax(1).numpy(), kept.best.predicted[at])
        assert np.allclose(logits.softmax(1).amax(1).numpy(), kept.best.confidence[at], atol=1e-6)


def test_the_bank_holds_exactly_what_direct_recalibration_measures(small_run):
    bank = BatchNormBank.load(small_run.evaluation.bank_file)
    classifier, datamodule = load(small_run.path), evaluated_images(small_run)
    for size in (12, 16, 20):
        batches = datamodule.calibration_batches(
            size,
            num_images=40,
            batch_size=20,
            augment=False,
        )
        (direct,) = measured_statistics(classifier.net, ((size, batch.images) for batch in batches)).values()
        assert bank.statistics[size].keys() == direct.keys()
        assert all(torch.equal(bank.statistics[size][name], direct[name]) for name in direct)


def test_paths_and_tensors_of_photos_get_the_evaluations_answers(photo_run, photos):
    kept = Predictions.load(photo_run.evaluation.test_predictions)
    names = evaluated_images(photo_run).dataset.test.paths
    classifier = load(photo_run.path, image_size=96)
    found = classifier.predict([photos / name for name in names])
    at = kept.image_sizes.index(96)
    assert [one.class_number for one in found] == kept.best.predicted[at].tolist()
    assert np.allclose([one.probability for one in found], kept.best.confidence[at], atol=1e-6)
    assert [one.name for one in found] == [str(photos / name) for name in names]
    picture = Image.open(photos / names[0])
    as_tensor = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    again = classifier.predict([as_tensor, picture.convert("RGB")], batch_size=1)
    assert [one.class_number for one in again] == [found[0].class_number] * 2
    assert [one.name for one in again] == ["image 0", "image 1"]
    assert again[0].probability == pytest.approx(found[0].probability, abs=0.02), "libjpeg's two scales differ a little"


def test_sizes_are_switched_without_loading_and_a_size_between_says_whose_statistics_it_takes(small_run):
    classifier = load(small_run.path, image_size=12)
    held = {name: value.clone() for name, value in batch_norm_statistics(classifier.net).items()}
    assert classifier.set_image_size(20) is classifier
    assert any(not torch.equal(held[name], value) for name, value in batch_norm_statistics(classifier.net).items())
    with pytest.warns(UserWarning, match="no batch-norm statistics for 13 px: those of 12 px"):
        classifier.set_image_size(13)
    assert classifier.image_size == 13
    assert all(torch.equal(held[name], value) for name, value in batch_norm_statistics(classifier.net).items())
    assert classifier.transform(np.zeros((40, 30, 3), np.uint8)).shape == (3, 13, 13)
    with pytest.raises(UserError, match="positive whole number of pixels"):
        classifier.set_image_size(0)


def test_it_begins_at_the_size_that_the_run_advised(small_run):
    advised = json.loads(small_run.summary_file.read_text())["advice"]["image_size"]
    assert load(small_run.path).image_size == advised


def test_a_network_without_batch_norms_needs_no_bank(photo_run):
    classifier = load(photo_run.path)
    assert photo_run.evaluation.bank_file.exists() == bool(batch_norms(classifier.net))
    with warnings.catch_warnings():
        warnings.simplefilter("error" if not batch_norms(classifier.net) else "ignore")
        classifier.set_image_size(80)


def test_a_bank_of_other_weights_is_refused(copied):
    bank = BatchNormBank.load(copied.evaluation.bank_file)
    BatchNormBank("0" * 64, bank.calibration, bank.statistics).save(copied.evaluation.bank_file)
    with pytest.raises(UserError, match=r"bn_bank.safetensors holds the batch-norm statistics of other weights"):
        load(copied.path)


@pytest.mark.parametrize("damage", ["missing", "cut", "another", "renamed"])
def test_a_bank_that_is_none_is_refused(copied, damage):
    path = copied.evaluation.bank_file
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:300])
    elif damage == "another":
        save_file({"weight": torch.zeros(3)}, path)
    else:
        bank = BatchNormBank.load(path)
        odd = {size: {f"x{name}": value for name, value in one.items()} for size, one in bank.statistics.items()}
        BatchNormBank(bank.weights, bank.calibration, odd).save(path)
    with pytest.raises(UserError, match=r"bn_bank\.safetensors"):
        load(copied.path)


def test_unfinished_runs_and_damaged_summaries_are_refused(copied):
    copied.summary_file.write_text("{")
    with pytest.raises(UserError, match=r"summary\.json"):
        load(copied.path)
    copied.summary_file.unlink()
    with pytest.raises(UserError, match="expected a finished run"):
        load(copied.path)


def test_a_damaged_checkpoint_of_a_finished_run_says_how_to_mend_it(copied):
    copied.last_checkpoint.write_bytes(copied.last_checkpoint.read_bytes()[:1000])
    said = r": expected a whole checkpoint, got .*last\.ckpt.*; or remove its summary\.json: resume=.* goes on"
    with pytest.raises(UserError, match=said):
        load(copied.path)


def test_functions_that_a_config_names_are_not_called_unless_trusted(copied):
    config = copied.config()
    config.model._target_ = "os.system"
    copied.save_config(config)
    with pytest.raises(UserError, match=r"got os.system in its config.yaml.* trust_target=True"):
        load(copied.path)


def test_the_digest_of_weights_ignores_statistics_and_nothing_else(small_run):
    net = load(small_run.path).net
    before = weights_digest(net)
    batch_norms(net)[0].running_mean.add_(1)
    assert weights_digest(net) == before
    with torch.no_grad():
        next(net.parameters()).add_(1)
    assert weights_digest(net) != before


def test_more_sizes_of_the_same_network_join_a_bank(small_run):
    bank = BatchNormBank.load(small_run.evaluation.bank_file)
    few = BatchNormBank(bank.weights, bank.calibration, {12: bank.statistics[12]})
    more = BatchNormBank(bank.weights, bank.calibration, {24: bank.statistics[20]})
    other = BatchNormBank("1" * 64, bank.calibration, {24: bank.statistics[20]})
    otherwise = BatchNormBank(bank.weights, replace(bank.calibration, transform="train"), {24: bank.statistics[20]})
    assert list(more.with_more(few).statistics) == [12, 24]
    assert list(otherwise.with_more(few).statistics) == [24], "nor what was measured otherwise"
    assert list(other.with_more(few).statistics) == [24], "another network's are not mixed in"
    assert (bank.nearest(13), bank.nearest(14), bank.nearest(100)) == (12, 12, 20)


def test_nothing_in_a_bank_is_unpickled(small_run):
    assert all(isinstance(value, torch.Tensor) for value in load_file(small_run.evaluation.bank_file).values())


def test_the_package_offers_it(small_run):
    assert sizemix.load(small_run.path, image_size=16).image_size == 16
