from pathlib import Path

from sizemix.training import cost_cache
from sizemix.training.cost_cache import cached_costs


class Measure:
    """Costs a thousand times the size, and notes what it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, image_sizes):
        self.asked.append(image_sizes)
        return {size: 1000.0 * size for size in image_sizes}


def test_a_size_is_measured_once_for_a_network(tmp_path):
    measure = Measure()
    for sizes in ([32, 16], [16, 32], [48, 16]):
        costs = cached_costs({"name": "resnet18"}, sizes, measure=measure, folder=tmp_path)
        assert costs == {size: 1000.0 * size for size in sizes}
    assert measure.asked == [[16, 32], [16, 48]]


def test_another_network_is_measured_anew(tmp_path):
    measure = Measure()
    for classes in (10, 100):
        cached_costs({"name": "resnet18", "num_classes": classes}, [16], measure=measure, folder=tmp_path)
    assert measure.asked == [[16], [16]]


def test_a_damaged_file_is_measured_anew(tmp_path):
    measure = Measure()
    cached_costs({"name": "resnet18"}, [16], measure=measure, folder=tmp_path)
    (file,) = tmp_path.rglob("*.json")
    file.write_text('{"16": 16')
    assert cached_costs({"name": "resnet18"}, [16], measure=measure, folder=tmp_path) == {16: 16000.0}
    assert measure.asked == [[16], [16]]


def test_another_version_is_measured_anew(tmp_path, monkeypatch):
    measure = Measure()
    for number in ("1.0.31", "1.0.32"):
        monkeypatch.setattr(cost_cache, "version", lambda name, number=number: number)
        cached_costs({"name": "resnet18"}, [16], measure=measure, folder=tmp_path)
    assert measure.asked == [[16], [16]]


def test_a_place_that_cannot_be_written_to_costs_only_time():
    measure = Measure()
    for _ in range(2):
        assert cached_costs({"name": "resnet18"}, [16], measure=measure, folder=Path("/proc/none")) == {16: 16000.0}
    assert len(measure.asked) == 2
