# Every target first installs what it needs from uv.lock: only Python >= 3.11 and make have to be there.
# Another interpreter: make PYTHON=/path/to/python TARGET. Arguments for the program: make TARGET ARGS="...".
.DEFAULT_GOAL := help
.PHONY: help setup docs run demo test test-slow lint simulate chaos mutants mistakes smoke bench bench-together picture clean
export PYTHON

python := .venv/bin/python
typed := src examples bench tests/docs/typing_api.py

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s  %s\n", $$1, $$2 }' Makefile

setup: ## install what uv.lock pins into .venv
	@tools/bootstrap

# exec: signals reach the program itself, with no shell between it and make.
run: setup ## run the example
	@echo "run: examples/host_monitor.py (stop it with Ctrl-C)"
	@exec $(python) examples/host_monitor.py --dashboard 0 $(ARGS)

demo: setup ## run three processes of a shop on one store, with a dashboard; one is killed now and then, and comes back
	@exec $(python) examples/demo.py $(ARGS)

bench: setup ## run the benchmarks (make bench ARGS="--only W1,W8-sqlite --rounds 1"; --help lists all options)
	@exec $(python) -m bench $(ARGS)

bench-together: setup ## benchmark instances that share 1,000 tasks (make bench-together ARGS="--postgres --ahead 0")
	@exec $(python) -m bench.together $(ARGS)

test: lint ## lint, then one test of every mechanism (some minutes)
	@tools/suite short $(ARGS)

test-slow: setup ## the rest: all faults, repetitions on uvloop and in debug mode, long properties, other CPythons
	@tools/suite slow $(ARGS)
	@tools/smoke

lint: setup ## ruff, mypy and the import contracts
	@echo "lint: ruff"
	@$(python) -m ruff check
	@$(python) -m ruff format --check
	@echo "lint: mypy --strict $(typed)"
	@$(python) -m mypy $(typed)
	@echo "lint: import contracts"
	@.venv/bin/lint-imports --no-logo

hard := tests/simulation/test_mutants.py::test_nothing_is_broken_in_hard_times

simulate: setup ## simulate instances under SEEDS plans of faults, 300 virtual seconds each (make simulate SEEDS=1000)
	@SEEDS=$(or $(SEEDS),500) $(python) -m pytest tests/simulation/test_simulation.py $(hard) --timeout 36000 $(ARGS)

chaos: setup ## MINUTES of random faults in processes, connections and a PostgreSQL server (make chaos MINUTES=60 SEED=7)
	@MINUTES=$(or $(MINUTES),5) SEED=$(or $(SEED),1) $(python) -m pytest -s tests/processes/chaos.py --timeout 360000 $(ARGS)

mutants: setup ## remove each line that keeps a promise between instances, and check that a test notices (an hour)
	@exec tools/mutants $(ARGS)

mistakes: setup ## print typical mistakes and what the error tells of each
	@cd tests && exec ../$(python) -m behaviour.test_mistakes

smoke: setup ## run the smoke tests on every other CPython that is installed
	@tools/smoke

picture: setup ## make the picture of the dashboard in README.md again (some minutes; needs chromium)
	@PICTURE=docs/dashboard.png $(python) -m pytest -q tests/processes/admin/test_picture.py

docs: setup ## build the documentation site into build/docs; a broken link or reference is an error
	@$(python) -m sphinx -W --keep-going -q -b html -d build/doctrees docs build/docs
	@echo "docs: build/docs/index.html"

clean: ## remove environments and caches
	rm -rf .venv .venvs build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
