# Everything needs only git, make and Python >= 3.11. `make demo` and `make test` set up what is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-all checks bench setup clean help

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(READY)  ## Tokenise, train, continue a prompt, write runs/demo/report.html
	$(BIN)/hocket demo

test: $(READY)  ## Tests, under 10 minutes on 2 cores
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-all: $(READY)  ## All tests, the slow ones too
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'slow or not slow'

checks: $(READY)  ## Style, types, import direction
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(READY)  ## Side-by-side measurements
	$(BIN)/python -m benchmarks

setup: $(READY)  ## Make the environment in .venv

# The constraints pin torch, so that a CPU wheel or an installed CPU torch that satisfies the pin is kept.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "hocket needs Python 3.11 or newer; set PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m hocket.training.warmup
	@touch $(READY)

clean:  ## Remove the environment, runs and caches
	rm -rf $(VENV) runs dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
