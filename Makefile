# make demo                    set up .venv and run the main job on real photos
# make test                    set up .venv and run the whole test suite
# make test-fast               all but the tests that are marked as slow, for daily work
# make docs                    build the documentation into site/; a broken link is an error
# make figures                 make the pictures of docs and notebook again; SEEDS='0 1 2' also
#                              that of self-training, 40 minutes of CPU more
# make test STACK=openmmlab    the same with the other mm* family, in .venv-openmmlab
STACK ?= onedl
VENV := .venv$(if $(filter openmmlab,$(STACK)),-openmmlab)
PYTHON := $(CURDIR)/$(VENV)/bin/python
WORKERS ?= 2
# The slow tests wait for processes and servers, too: a worker more than cores.
TEST_WORKERS ?= 3

.PHONY: demo docs figures lint setup test test-fast

setup:
	@bash requirements/install.sh $(STACK) $(CURDIR)/$(VENV)

demo:
	@bash requirements/demo.sh $(STACK) $(CURDIR)/$(VENV) $(WORKERS)

figures: setup
	out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && $(PYTHON) -m cuts3d_mm demo "$$out" \
		--workers $(WORKERS) --pictures docs/pictures $(if $(SEEDS),&& $(PYTHON) \
		benchmarks/rounds_control.py "$$out/rounds" --seeds $(SEEDS) \
		--plot docs/pictures/self_training.png)
	$(PYTHON) docs/figures/data_flow.py && $(PYTHON) docs/figures/first_picture.py
	CUTS3D_DOCS=$(CURDIR)/docs/pictures $(PYTHON) -m pytest -q tests/app \
		tests/demo/test_notebook.py tests/inference/test_tracking.py -k 'visitor or cell or rendered'

docs: setup
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --site-dir site

# Tests of a file stay on one worker, where they share what was made for them.
test: setup
	$(PYTHON) -m pytest -n $(TEST_WORKERS) --dist worksteal $(PYTEST_ARGS)

test-fast: setup
	$(PYTHON) -m pytest -n $(WORKERS) --dist worksteal -m 'not slow' $(PYTEST_ARGS)

lint: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(PYTHON) -m codespell_lib .
	$(PYTHON) -m check_jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(PYTHON) -m check_jsonschema --builtin-schema vendor.github-issue-forms \
		$(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(PYTHON) -m check_jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
