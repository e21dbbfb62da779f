# Everything runs inside .venv, which `make` builds from constraints.txt.
FITS   := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c '$(FITS)' 2>/dev/null && echo $$p && break; done)
export OMP_WAIT_POLICY ?= PASSIVE# threads wait without spinning, GNU's OpenMP
export KMP_BLOCKTIME   ?= 0# and Intel's
BIN    := .venv/bin
READY  := .venv/.ready

define IMPORT_ALL
import importlib, pkgutil, rewind
names = [m.name for m in pkgutil.walk_packages(rewind.__path__, "rewind.")]
for name in set(names) - {"rewind.book", "rewind.runner"}:
    importlib.import_module(name)
print(len(names), "modules")
endef
export IMPORT_ALL

.PHONY: help book test explore lowest wheel bench lint lab peers clean
.DEFAULT_GOAL := help

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-8s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11 to 3.13 found: call make PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -c '$(FITS)' || { echo "$(PYTHON) is not Python 3.11 to 3.13: name another"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[book,test]'
	@touch $@

book: $(READY)  ## run every chapter (quick profile) and render the book
	$(BIN)/rewind run
	$(BIN)/rewind build

test: lint  ## lint, strict book build, unit tests and doctests, notebooks; a worker on each core
	$(BIN)/rewind run
	$(BIN)/rewind build --strict
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n logical --dist loadfile --durations=10 \
		--nbval-lax --nbval-cell-timeout=300 tests lib/rewind notebooks

explore: $(READY)  ## property-based tests with fresh seeds
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n logical --dist loadfile --hypothesis-profile=explore -m hypothesis tests

lowest:  ## the fast tests with the oldest versions that pyproject.toml allows, in .venv-lowest
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-lowest.txt -e '.[book,test]'
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -q -n logical --dist loadfile -m "not slow" tests lib/rewind

wheel:  ## the library alone: build its wheel, install it without extras, import every module but the book's
	rm -rf _build/wheel
	$(PYTHON) -m venv _build/wheel/venv
	_build/wheel/venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w _build/wheel .
	_build/wheel/venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt _build/wheel/*.whl
	cd _build/wheel && venv/bin/python -c "$$IMPORT_ALL"

lint: $(READY)  ## ruff on library, tests and notebooks; mypy on the public faces
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## every benchmark at a small size, one table of ratios
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks

lab: $(READY)  ## JupyterLab on the chapters
	$(BIN)/jupyter lab --notebook-dir=.

peers: $(READY)  ## install the optional extra: peers to compare with
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[peers]'

clean:  ## remove what make made, but for .venv and simulated samples
	rm -rf _run _build .mypy_cache
