# make demo                    set up .venv and run the main job on real photos
# make test                    set up .venv and run the whole test suite
# make pictures                make the pictures of README and notebook again; SEEDS=3 also those
#                              of self-training, 25 minutes more
# make test STACK=openmmlab    the same with the other mm* family, in .venv-openmmlab
STACK ?= onedl
VENV := .venv$(if $(filter openmmlab,$(STACK)),-openmmlab)
PYTHON := $(CURDIR)/$(VENV)/bin/python
WORKERS ?= 2
SEEDS ?= 0

.PHONY: demo pictures test lint setup

setup:
	@bash requirements/install.sh $(STACK) $(CURDIR)/$(VENV)

demo:
	@bash requirements/demo.sh $(STACK) $(CURDIR)/$(VENV) $(WORKERS)

pictures: setup
	out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && $(PYTHON) -m cuts3d_mm demo "$$out" \
		--workers $(WORKERS) --pictures docs --self-training $(SEEDS)
	CUTS3D_DOCS=$(CURDIR)/docs $(PYTHON) -m pytest -q tests/app tests/demo/test_notebook.py \
		-k 'visitor or cell'

test: setup
	$(PYTHON) -m pytest -n $(WORKERS) $(PYTEST_ARGS)

lint: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(PYTHON) -m codespell_lib .
