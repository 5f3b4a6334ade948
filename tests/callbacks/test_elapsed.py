from types import SimpleNamespace

from sizemix.callbacks.elapsed import Elapsed


def test_validations_are_dated_by_the_time_that_training_has_taken():
    logged = {}
    module = SimpleNamespace(log=lambda name, value, **how: logged.update({name: value}))
    callback = Elapsed(SimpleNamespace(time_elapsed={"train": 12.5}.get))
    callback.on_validation_epoch_end(SimpleNamespace(sanity_checking=True), module)
    assert logged == {}, "the check before training is not part of it"
    callback.on_validation_epoch_end(SimpleNamespace(sanity_checking=False), module)
    assert logged == {"throughput/elapsed_seconds": 12.5}
