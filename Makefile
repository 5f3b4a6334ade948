# make train [ARGS="model=resnet50 sizes=mixed"], make test [ARGS="-k plan"]; both set up .venv on first use.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: setup train test lint format demo-compare bench-data bench-train bench-gpu bench-parity lock

train: setup
	$(PY) train.py $(ARGS)

test: setup
	$(PY) -m pytest -n auto --dist loadfile $(ARGS)

lint: setup
	$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy

# Nine small runs, two at a time, then comparison/comparison.html; interrupted, it goes on with what is missing.
demo-compare: setup
	$(PY) train.py -m experiment=demo_compare hydra/launcher=joblib hydra.launcher.n_jobs=2 \
		hydra.sweep.dir=multirun/demo_compare $(ARGS)
	$(VENV)/bin/sizemix compare multirun/demo_compare

bench-data: setup
	$(PY) benchmarks/data.py $(if $(CORPUS),--corpus $(CORPUS)) $(ARGS)

bench-train: setup
	OMP_NUM_THREADS=1 $(PY) benchmarks/training.py $(ARGS)

bench-gpu: setup
	$(PY) benchmarks/training.py --gpu $(ARGS)

# SOURCE: train/CLASS/ and test/CLASS/ with small images.
bench-parity: setup
	OMP_NUM_THREADS=1 $(PY) benchmarks/parity.py --source $(SOURCE) $(ARGS)

format: setup
	$(PY) -m ruff check --fix . && $(PY) -m ruff format .

setup: $(READY)

# pip refuses an editable install under --require-hashes, hence two steps.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --require-hashes -r requirements.lock
	$(PY) -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

lock: requirements.in
	uv pip compile --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 \
		--constraint requirements.in --extra dev pyproject.toml -o requirements.lock
