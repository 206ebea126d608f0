# Every command people and CI run. The environment is made from the lock files, so an install today and in a year are
# the same; nothing here needs root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
AUDIT := $(BIN)/pip-audit --progress-spinner off --disable-pip --require-hashes --timeout 10 -r requirements.lock
.DEFAULT_GOAL := help

help: ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

$(VENV)/.installed: requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "Python's venv module is needed: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --editable .
	@touch $@

install: $(VENV)/.installed ## Set up the environment

run: install ## Set up, and run the demo: the whole daemon against a simulated FreeSWITCH
	$(BIN)/dialer demo

test: install ## Set up, and run the tests
	$(BIN)/python -m pytest -n 4 --dist worksteal

check: install ## Format, lint, types, import floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(AUDIT) > $(VENV)/audit.txt 2>&1; \
	if grep -q '^Found' $(VENV)/audit.txt; then cat $(VENV)/audit.txt; exit 1; fi; \
	echo "Known holes: none in $$(grep -c '^[a-z].*==' requirements.lock) dependencies," \
		"$$(grep -c 'could not be audited' $(VENV)/audit.txt) of them not known to the service asked"

audit: install ## Known holes in dependencies; asks PyPI
	$(AUDIT)

soak: install ## Long runs: 100,000 random stories, a virtual week of 1,000,000 calls, two daemons, an hour of SIGKILLs; some 5 hours
	$(BIN)/python -m tests.faults.soak

live: install ## The tests on a real FreeSWITCH with SIPp, where both are found
	DIALER_LIVE=1 $(BIN)/python -m pytest tests/live -q -rs

bench: install ## Every measurement, one JSON line a figure
	$(BIN)/python -m bench

fuzz: install ## A million broken inputs for each place where bytes come in
	$(BIN)/python -m tests.fuzz

clean: ## Throw the environment away
	rm -rf $(VENV)

.PHONY: help install run test check audit soak live bench fuzz clean
