# `make demo`: set up and evaluate the model that travels with the package.
# `make test`: set up and pass the checks of every day.
# `make test-all`: pass those and the long ones.
# `make docs`: set up and build the documentation site; a warning is an error.
# `make methods`: train ADEM-VL, MemVP, LaVIN and LLaVA on the mini world and compare them, for two
# hours or more; what is done is kept, and no test needs it.
# `make test-bridges`: run VLMEvalKit and lmms-eval themselves, each from an environment of its own
# that this installs (about 1.5 GB, a quarter of an hour), and compare their scores with ours.
# Needs Python 3.11 or later, pip and make; PYTHON=… chooses the interpreter.

.PHONY: demo test tests test-all test-bridges lint style types docs methods

# Some machines have an older python3 beside a suitable one.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11 python; do \
    $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
    && echo $$name && break; done)
BIN := .venv/bin
# Modules are compiled when they are first imported: few of all that is installed ever are.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

demo: .venv/.installed
	$(BIN)/adem-bench run --model adem-tiny --tasks mini
	@echo && echo "The same with every image withheld, then the language model without its adapter:"
	@$(BIN)/adem-bench run --model adem-tiny --tasks mini --blind > /dev/null
	@$(BIN)/adem-bench run --model adem-tiny --tasks mini --adapter none > /dev/null
	@$(BIN)/adem-bench leaderboard results
	@$(BIN)/adem-bench report results/adem-tiny --output results/report.html
	@echo && echo "Files of the runs:" && find results/adem-tiny -type f ! -name .lock | sort

# Tests start many processes: what these compile is kept, whatever the machine's default.
unexport PYTHONDONTWRITEBYTECODE

# Side by side, as many processes as there are cores; models this small are fastest on one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

CHOSEN := -m "not slow"

# mypy runs beside the tests; what ruff finds is told before they begin.
test: style
	@$(MAKE) -j 2 types tests

tests: .venv/.installed-test
	$(PYTEST) $(CHOSEN)

# In one go: collecting them takes half a minute of a slow core.
test-all: .venv/.installed-all
	@$(MAKE) test CHOSEN=

lint: style types

style: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check adem_bench tests tools benchmarks docs/conf.py

types: .venv/.installed-test
	$(BIN)/mypy

# They see .venv's packages, PyTorch among them, and have what clashes with these for themselves.
HARNESSES := vlmevalkit=$(CURDIR)/build/vlmevalkit/bin/python:lmms_eval=$(CURDIR)/build/lmms_eval/bin/python

test-bridges: build/vlmevalkit/.installed build/lmms_eval/.installed
	ADEM_BENCH_HARNESS_PYTHON=$(HARNESSES) OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/bridges

build/vlmevalkit/.installed: REQUIRED = 'ms-vlmeval>=0.0.20'
# MathVista's code in lmms-eval imports Levenshtein, which lmms-eval does not bring.
build/lmms_eval/.installed: REQUIRED = 'lmms-eval>=0.7.3' 'filelock<4' Levenshtein
SITE := import sysconfig; print(sysconfig.get_path("purelib"))
build/%/.installed: .venv/.installed-test
	@echo "Installing $(REQUIRED) into $(@D), which takes minutes."
	@$(BIN)/python -m venv $(@D)
	@$(BIN)/python -c '$(SITE)' > $$($(@D)/bin/python -c '$(SITE)')/base.pth
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(REQUIRED)
	@touch $@

docs: .venv/.installed-docs
	@$(BIN)/python -m sphinx -E -W --keep-going -q -c docs -d build/doctrees . build/site
	@echo "The site is build/site/index.html"

methods: .venv/.installed
	$(BIN)/python tools/compare_methods.py

# The stamps keep a second `make` from asking pip again.
.venv/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or later found; set PYTHON=…" >&2; exit 2; }
	@echo "Installing adem-bench into .venv; PyTorch alone is a few GB, so this takes minutes."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) -e .
	@touch $@

.venv/.installed-test: .venv/.installed
	@$(PIP) -e '.[test]'
	@touch $@

.venv/.installed-docs: .venv/.installed
	@$(PIP) -e '.[docs]'
	@touch $@

.venv/.installed-all: .venv/.installed
	@$(PIP) -e '.[test,docs]'
	@touch .venv/.installed-test .venv/.installed-docs $@
