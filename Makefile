# Everything works from a clean clone with Python 3.11+ and make: `make demo`, `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo test cluster chaos fuzz lint format perf serve docs clean

help: ## List what make can do
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

install: $(VENV)/installed ## Make the environment and install everything, pinned

# torch comes first and alone: asked for exactly, pip takes the CPU build it finds; pulled in by another
# package, it would take the newest build with its gigabytes of CUDA.
$(VENV)/package: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch hatchling editables
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable .
	@touch $@

$(VENV)/installed: $(VENV)/package
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

demo: $(VENV)/package ## Evaluate the zoo's small models on the embedded digits, build the site
	@test -f $(DEMO)/curveboard.toml || $(BIN)/curveboard init $(DEMO)
	$(BIN)/curveboard evaluate --workspace $(DEMO) --dataset digits --limit 60 --jobs $(JOBS)
	$(BIN)/curveboard publish --workspace $(DEMO) --bundles
	@echo "The board: $(abspath $(DEMO)/public/index.html)"

test: install ## Run all tests
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

cluster: install ## Run the tests of Ray and Slurm, which need the extras (400 MB), and one round of chaos
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev,ray,slurm]'
	$(BIN)/python -m pytest tests/test_ray.py tests/test_slurm.py tests/test_chaos.py \
		tests/test_training_elsewhere.py

chaos: install ## Kill and stop things amid runs, by chance, twenty times (needs Ray and PostgreSQL)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev,ray]'
	CURVEBOARD_CHAOS=20 $(BIN)/python -m pytest tests/test_chaos.py

test-adapters: .adapters-venv/installed ## Run the adapters' tests against timm, RobustBench and TensorFlow (own environment, 7 GB)
	CURVEBOARD_ADAPTERS=1 .adapters-venv/bin/python -m pytest tests/adapters tests/test_submit.py tests/test_claims.py

.adapters-venv/installed: tests/adapters/requirements.txt pyproject.toml
	$(PYTHON) -m venv .adapters-venv
	.adapters-venv/bin/python -m pip install --quiet --requirement tests/adapters/requirements.txt
	@touch $@

fuzz: install ## Try ten times as many random networks and hostile files, and a year looked at after every step
	CURVEBOARD_FUZZ=10 $(BIN)/python -m pytest tests/test_program_fuzz.py tests/test_fuzz_hostile.py \
		tests/test_submit_killed.py tests/test_year.py --timeout 7200

lint: install ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: install ## Format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: install ## Write the generated parts of the documentation anew
	$(BIN)/python docs/generate.py

perf: install ## Measure against the peers' libraries (own environment; takes a while)
	$(MAKE) -C perf

serve: install ## Show the demo's board on http://127.0.0.1:8000
	$(BIN)/curveboard serve --workspace $(DEMO)

clean: ## Remove everything that make has made
	rm -rf $(VENV) .perf-venv .adapters-venv $(DEMO) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
