# fasttrace: `make` shows the menu. Everything is installed into $(VENV); nothing outside this directory is touched.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses=4
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip
CORE := setup.py src/fasttrace/core/_native.pyx $(wildcard src/fasttrace/core/*.pxd) \
	$(shell find csrc/include csrc/src csrc/python -type f 2>/dev/null)
ARGS ?=

.DEFAULT_GOAL := menu
.PHONY: menu demo test setup bench lint types c-test wheel clean
.DELETE_ON_ERROR:

menu:
	@echo 'fasttrace - LLM observability for Python'
	@echo
	@echo '  make demo      set up, then watch real calls become spans (ARGS="--live" for your own OpenAI key)'
	@echo '  make test      set up, then pass every test, native and pure (ARGS="-k ring" to choose)'
	@echo
	@echo '  make bench     benchmarks and their budgets'
	@echo '  make lint      ruff; make types: mypy --strict'
	@echo '  make c-test    the C core alone: unit, sanitizers, crash, model'
	@echo '  make wheel     sdist, then wheels from it, in dist/'
	@echo '  make clean     remove what was built (keeps nothing but the sources)'
	@echo
	@echo '  PYTHON=$(PYTHON)  VENV=$(VENV)  (both can be overridden)'

demo: setup
	@$(BIN)/fasttrace demo $(ARGS)

test: setup
	@echo '== tests, native core (FASTTRACE_PURE=0)'
	@FASTTRACE_PURE=0 $(PYTEST) -q $(ARGS)
	@echo '== tests, pure core (FASTTRACE_PURE=1): what did not run on both cores before'
	@FASTTRACE_PURE=1 $(PYTEST) -q -m 'not packaging' --own-core-only $(ARGS)

setup: $(VENV)/.core

$(BIN)/python:
	@test -n '$(PYTHON)' || { echo 'No Python >= 3.10 found: install one, or say PYTHON=/path/to/python'; exit 1; }
	@echo '-- environment: $(VENV) ($(shell $(PYTHON) --version 2>&1))'
	@$(PYTHON) -m venv $(VENV) || { echo 'No venv module: install it (Debian: apt install python3-venv)'; exit 1; }

# Metadata and dependencies; the sources are used in place, so that only the core is ever built again.
$(VENV)/.deps: $(BIN)/python pyproject.toml
	@echo '-- dependencies: from the package index into $(VENV) (a minute, once; log: $(VENV)/pip.log)'
	@{ $(PIP) install -q --upgrade 'pip>=23' 'setuptools>=77' 'Cython>=3.1' && \
		FASTTRACE_PURE=1 $(PIP) install -q --no-build-isolation -e '.[cli,dev,bench]'; } > $(VENV)/pip.log 2>&1 \
		|| { cat $(VENV)/pip.log; exit 1; }
	@touch $@

# An extension of an earlier build must not stand in for one that does not compile: it goes first.
$(VENV)/.core: $(VENV)/.deps $(CORE)
	@echo '-- core: compiling csrc/ (log: $(VENV)/core.log)'
	@suffix=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))'); \
		rm -f src/fasttrace/core/_native$$suffix build/lib*/fasttrace/core/_native$$suffix
	@env -u FASTTRACE_PURE $(BIN)/python setup.py build_ext --inplace > $(VENV)/core.log 2>&1 \
		|| { cat $(VENV)/core.log; exit 1; }
	@grep '^fasttrace:' $(VENV)/core.log || true
	@env -u FASTTRACE_PURE $(BIN)/python -c \
		'import fasttrace; print("-- ready: fasttrace", fasttrace.__version__, "with the", fasttrace.backend(), "core")'
	@touch $@

bench: setup
	@FASTTRACE_PURE=0 $(PYTEST) benchmarks --benchmark-only $(ARGS)

lint: setup
	@$(BIN)/ruff check .

types: setup
	@$(BIN)/mypy

c-test:
	@.ci/run c_tests

wheel: setup
	@rm -rf dist
	@$(BIN)/python -m build --sdist --outdir dist . > $(VENV)/wheel.log 2>&1 || { tail -30 $(VENV)/wheel.log; exit 1; }
	@FASTTRACE_PURE=0 $(PIP) wheel -q --no-deps --wheel-dir dist dist/fasttrace-*.tar.gz
	@FASTTRACE_PURE=1 $(PIP) wheel -q --no-deps --wheel-dir dist dist/fasttrace-*.tar.gz
	@ls -1 dist

clean:
	@rm -rf build dist wheelhouse $(VENV) .venv-compat .pytest_cache .mypy_cache .ruff_cache .benchmarks csrc/build src/*.egg-info
	@find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
	@rm -f src/fasttrace/core/_native.c src/fasttrace/core/_native*.so src/fasttrace/core/_native.html
