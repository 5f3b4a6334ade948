"""The wheel carries the configuration and the data, and its command works from any folder."""

import subprocess
import sys
import zipfile
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def test_the_installed_wheel_composes_the_same_configuration(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", str(_ROOT)]
    subprocess.run([*build, "--wheel-dir", str(tmp_path)], check=True)
    (wheel,) = tmp_path.glob("sizemix-*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(installed)
    assert len(names) == len(set(names))
    assert {"sizemix/conf/train.yaml", "sizemix/data/fashion_mnist.npz", "sizemix/py.typed"} <= set(names)
    assert "sizemix/report/comparison.html" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)

    def configuration(source):
        program = (
            f"import sys; sys.path.insert(0, {str(source)!r}); import sizemix; from sizemix.cli import train;"
            f"assert sizemix.__file__.startswith({str(source)!r}); sys.exit(train.main(['--cfg', 'job']))"
        )
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert configuration(installed) == configuration(_ROOT / "src")
