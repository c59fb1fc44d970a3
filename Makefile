# The commands of the house. `make` alone lists them.
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# python3.11 where there is one, else python3 if it is new enough
PYTHON ?= $(shell for p in python3.11 python3; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$p; break; fi; done)

# tests that neither start a server nor watch the clock: they may share the machine
COMPUTING := tests/unit tests/domains tests/docs tests/chaos/test_fuzz_scenarios.py

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint bench clean

help: ## list the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-8s %s\n", $$1, $$2}'

venv: $(STAMP) ## create $(VENV) and install the project into it, again only when pyproject.toml or the kernels change

$(STAMP): pyproject.toml hatch_build.py $(wildcard twin_actors/core/kernels/*.[ch])
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and neither python3.11 nor python3 is: install it" \
		"(Debian, Ubuntu: apt install python3.11-venv) or say make PYTHON=/path/to/python"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,history]'
	@touch $@

demo: $(STAMP) ## bring the harbour city up in the foreground (Ctrl-C ends it)
	@echo "The harbour city is starting; Ctrl-C ends it. Meanwhile, in another terminal:"
	@echo "  $(BIN)/twin-actors --help     what you can ask: ps, show, query, watch, decisions, ledger, ..."
	@echo "  $(BIN)/python                 >>> from twin_actors import City; city = City.connect('harbour'); city"
	@echo "Why things happen in it is told in scenarios/harbour.yaml, under 'story'."
	$(BIN)/twin-actors up scenarios/harbour.yaml

test: $(STAMP) ## run the tests; what needs a server that is not installed is skipped with a reason
	@failed=0; \
	echo "what only computes, a process a core"; \
	$(BIN)/python -m pytest -q -m "not slow" -n auto --dist loadfile $(COMPUTING) || failed=1; \
	echo "living cities beside brokers, stores and chaos: two processes that mostly wait"; \
	$(BIN)/python -m pytest -q -m "not slow" -n 2 --dist loadgroup $(COMPUTING:%=--ignore=%) || failed=1; \
	exit $$failed

lint: $(STAMP) ## ruff (lint and format), mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) ## measure everything beside its peers, into benchmarks/report.md (half an hour; ARGS="--parts ingest")
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python benchmarks/report.py $(ARGS)
	$(BIN)/python benchmarks/scaling.py --write

clean: ## remove what can be made again (the virtual environment, caches, builds)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
