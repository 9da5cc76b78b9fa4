# make run: set up, run the main job, open the app.   make test: set up, check, test.   make test-long: the long tests.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8501
WORKERS ?= 2
BROWSERS ?= 2
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-test

.PHONY: setup demo run app test test-long check docs mutants clean faults

setup: $(STAMP)

$(STAMP): requirements.txt requirements-nodeps.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-nodeps.txt
	@touch $@

$(TEST_STAMP): $(STAMP) requirements-test.txt
	$(PY) -m pip install --quiet --disable-pip-version-check -c requirements.txt -r requirements-test.txt
	@touch $@

demo: $(STAMP)
	$(PY) -m medsae run demo

app: $(STAMP)
	@$(PY) -m medsae app --port $(PORT)

run: demo app

check: $(TEST_STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m basedpyright --pythonpath $(PY)

# What every change needs. One process a core, one thread each: two processes of two threads would wait for each other. A
# file stays in one process with what it has set up; those that take long come first (tests/conftest.py).
test: check
	$(call tests,not long)

# What is marked long: kills, full disks, real servers, whole trainings, the package, the docs, real pictures. With
# `make test` it is every test; .ci/run runs both.
test-long: $(TEST_STAMP)
	$(call tests,long)

define tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -m "$(1)" -n $(WORKERS) --dist loadfile --no-loadscope-reorder --ignore tests/browser
	$(PY) -m pytest -m "$(1)" tests/browser $(if $(filter-out 1,$(BROWSERS)),-n $(BROWSERS) --dist loadfile)
endef

# Kills, full disks, flipped bits, hostile links, bad pictures and replies: prints the table, at most 20 minutes.
faults: $(TEST_STAMP)
	$(PY) tests/faults/run.py

docs: $(TEST_STAMP)
	$(PY) -m mkdocs build --strict
	@echo "open site/index.html"

# One changed line at a time: does a test notice? A sample takes some minutes; SAMPLE=0 tries all (hours).
SAMPLE ?= 150
mutants: $(TEST_STAMP)
	$(PY) -m pip install --quiet --disable-pip-version-check -c requirements.txt mutmut==3.8.1
	$(PY) tools/mutants.py --sample $(SAMPLE)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
