# make demo: the whole path on real text. make test: linters, types, layers, tests. make chaos: the tests that take long.
# All install into .venv once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# TORCH_BACKEND=cpu takes torch's small CPU build instead of the locked one (hashes are then not checked: it is another file)
TORCH_BACKEND ?=

.PHONY: install demo test chaos lint bench lock clean
.DELETE_ON_ERROR:

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	awk '/^[^ #]/ {keep = /^(uv|setuptools|wheel|packaging)==/} keep' requirements.lock > $(VENV)/installers.txt
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r $(VENV)/installers.txt
ifeq ($(TORCH_BACKEND),)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes --no-build-isolation -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
else
	sed -E 's/ \\$$//; /^ +--hash=/d; /^(nvidia|cuda|triton)-?[a-z0-9-]*==/d' requirements.lock > $(VENV)/constraints.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --torch-backend $(TORCH_BACKEND) --no-build-isolation -c $(VENV)/constraints.txt -e '.[dev]'
endif
	touch $@

demo: install
	$(BIN)/python -m launch.demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest

# what kills and breaks a run at every point there is: a quarter of an hour on two cores
chaos: install
	$(BIN)/python -m pytest -m chaos

bench: install
	$(BIN)/python -m benchmarks.loader
	$(BIN)/python -m benchmarks.head
	$(BIN)/python -m benchmarks.train_step small --memory --mfu
	$(BIN)/python -m benchmarks.train_step small --dtype bf16
	$(BIN)/python -m benchmarks.train_step base --rounds 1
	$(BIN)/python -m benchmarks.train_step base-512 --memory --sides ours trainer --rounds 1 --steps 1
	$(BIN)/python -m benchmarks.ranks
	$(BIN)/python -m benchmarks.checkpoint
	$(BIN)/python -m benchmarks.checkpoint base --rounds 2
	$(BIN)/python -m benchmarks.big_batch
	$(BIN)/python -m benchmarks.optimizer
	$(BIN)/python -m benchmarks.seek
	$(BIN)/python -m benchmarks.restart
	$(BIN)/python -m benchmarks.cleaning
	$(BIN)/python -m benchmarks.encoding
	$(BIN)/python -m benchmarks.filters
	$(BIN)/python -m benchmarks.preprocess
	$(BIN)/python -m benchmarks.scale

# after a change of dependencies in pyproject.toml
lock: install
	$(BIN)/uv pip compile --quiet --python-version 3.11 --extra dev --generate-hashes --no-emit-index-url --no-header pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) demo
