# Every target sets up what it needs from uv.lock first: Python >= 3.11 and make are all that has to be there.
# Another interpreter: make PYTHON=/path/to/python TARGET. More arguments for what is started: make TARGET ARGS="...".
.DEFAULT_GOAL := help
.PHONY: help setup run test lint simulate chaos mutants smoke bench bench-together clean
export PYTHON

python := .venv/bin/python
typed := src examples bench

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s  %s\n", $$1, $$2 }' Makefile

setup: ## make .venv what uv.lock says
	@tools/bootstrap

# exec, in both: the program itself gets the signals, no shell stands between it and make.
run: setup ## run the example
	@echo "run: examples/host_monitor.py (Ctrl-C ends it)"
	@exec $(python) examples/host_monitor.py $(ARGS)

bench: setup ## run the benchmarks
	@exec $(python) -m bench $(ARGS)

bench-together: setup ## run instances that share 1,000 tasks (make bench-together ARGS="--postgres --ahead 0")
	@exec $(python) -m bench.together $(ARGS)

test: lint ## lint, all tests, then the smoke tests on the other CPythons
	@tools/suite $(ARGS)
	@tools/smoke

lint: setup ## ruff, mypy and the import contracts
	@echo "lint: ruff"
	@$(python) -m ruff check
	@$(python) -m ruff format --check
	@echo "lint: mypy --strict $(typed)"
	@$(python) -m mypy $(typed)
	@echo "lint: import contracts"
	@.venv/bin/lint-imports --no-logo

hard := tests/test_mutants.py::test_nothing_is_broken_in_hard_times

simulate: setup ## several instances under SEEDS plans of faults, 300 virtual seconds each (make simulate SEEDS=1000)
	@SEEDS=$(or $(SEEDS),500) $(python) -m pytest tests/test_simulation.py $(hard) --timeout 36000 $(ARGS)

chaos: setup ## MINUTES of random faults to processes, their ways to PostgreSQL and the server (make chaos MINUTES=60 SEED=7)
	@MINUTES=$(or $(MINUTES),5) SEED=$(or $(SEED),1) $(python) -m pytest -s tests/chaos_hosts.py --timeout 360000 $(ARGS)

mutants: setup ## leave out each line that keeps a promise between instances, and see that something notices (an hour)
	@exec tools/mutants $(ARGS)

smoke: setup ## the smoke tests on every other CPython that is installed
	@tools/smoke

clean: ## remove environments and caches
	rm -rf .venv .venvs build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
