# make demo                    set up .venv and run the main job on real photos
# make test                    set up .venv and run the whole test suite
# make test STACK=openmmlab    the same with the other mm* family, in .venv-openmmlab
STACK ?= onedl
VENV := .venv$(if $(filter openmmlab,$(STACK)),-openmmlab)
PYTHON := $(CURDIR)/$(VENV)/bin/python
WORKERS ?= 2

.PHONY: demo test lint setup

setup:
	@bash requirements/install.sh $(STACK) $(CURDIR)/$(VENV)

demo: setup
	$(PYTHON) -m cuts3d_mm demo demo_out --workers $(WORKERS)

test: setup
	$(PYTHON) -m pytest -n $(WORKERS) $(PYTEST_ARGS)

lint: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(PYTHON) -m codespell_lib .
