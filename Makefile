# Everything runs inside .venv, which `make` builds from constraints.txt.
FITS   := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c '$(FITS)' 2>/dev/null && echo $$p && break; done)
export OMP_WAIT_POLICY ?= PASSIVE# threads wait without spinning, GNU's OpenMP
export KMP_BLOCKTIME   ?= 0# and Intel's
BIN    := .venv/bin
READY  := .venv/.ready

.PHONY: help book test lab lint peers clean
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

lint: $(READY)  ## ruff on library, tests and notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lab: $(READY)  ## JupyterLab on the chapters
	$(BIN)/jupyter lab --notebook-dir=.

peers: $(READY)  ## install the optional extra: peers to compare with
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[peers]'

clean:  ## remove what make made, but for .venv and simulated samples
	rm -rf _run _build
