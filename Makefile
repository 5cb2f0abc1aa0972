# Every command of the project. Each one sets up what it needs on a fresh machine, in its own environment.
#   make PYTHON=python3.12 test     with another Python (3.11, 3.12 or 3.13)

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/
SOURCES := pyproject.toml setup.py $(wildcard MANIFEST.in) $(shell find src csrc -type f \
             \( -name '*.py' -o -name '*.py[xi]' -o -name '*.pxd' -o -name '*.[ch]pp' -o -name '*.h' \))

export PYTHONPATH :=
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test lint bench bench-regress learning-bench soak clean
help:                  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 24

demo: $(VENV)/demo     ## install, run the main job on a simulated line of 10,000 drives, write demo/report.html
	$(RUN)ppal-fast demo --out demo

test: $(VENV)/test     ## install, run the tests against the installed package
	$(RUN)python -m pytest -n 2

lint: $(VENV)/test     ## ruff, mypy --strict, and asv's check of the benchmarks
	$(RUN)ruff check .
	$(RUN)mypy
	$(RUN)asv check -E existing

# A pinned OpenBLAS kernel would slow the peers that stand on numpy: let each library choose its own.
bench: $(VENV)/test    ## ratios of median times beside the installed peers
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(RUN)python -m benchmarks.compare

bench-regress: $(VENV)/test  ## compare speed and quality with the last tag; fails where either was lost
	$(RUN)python -m benchmarks.regress

learning-bench: $(VENV)/test ## what learners and rules are worth; resumes where it stopped, writes docs/learning_benchmark.md
	$(RUN)python -m benchmarks.learning $(LEARNING)

soak: $(VENV)/test     ## a million items through the line, four threads, models exchanged; then paced for a minute
	$(RUN)python -m benchmarks.soak $(SOAK)

clean:                 ## remove the environment and everything built
	rm -rf $(VENV) .asv build dist demo src/*.egg-info
	find src -name '*.so' -delete

# The stamps: an environment, what the demo needs, what the tests need (which includes the former).
$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || \
	  { echo "ppal_fast needs Python 3.11, 3.12 or 3.13, which $(PYTHON) is not: name one, as in make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make an environment: install its venv package (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/demo: $(VENV)/made $(SOURCES)
	@echo "Installing ppal_fast into $(VENV) ..."
	@rm -rf build/lib*
	@$(RUN)python -m pip install --quiet '.[all]'
	@touch $@

$(VENV)/test: $(VENV)/made $(SOURCES)
	@echo "Installing ppal_fast and what its tests need into $(VENV) ..."
	@rm -rf build/lib*
	@$(RUN)python -m pip install --quiet '.[test]'
	@touch $@ $(VENV)/demo
