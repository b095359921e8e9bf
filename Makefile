# make demo | make test: each sets everything up on a machine that has python3 (3.11 or newer), its venv module and make.
# Overrides: PY=/path/to/python  TORCH="torch==2.9.1"  PIPX="--index-url ..."  GPU=yes|no  (see tools/set_up.py)

PY ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
TORCH ?=
PIPX ?=
GPU ?=
# Parallel test processes; each uses one torch thread.
JOBS ?= 2
BIN := .venv/bin

.PHONY: demo demo-train test lint mutants lock sbom audit clean
.DEFAULT_GOAL := demo

.venv/.ok: pyproject.toml constraints.txt requirements.lock torch.lock tools/set_up.py
	@test -n "$(PY)" || { echo "set-up: no Python 3.11 or newer found; install one or give it: make PY=/path/to/python3.11" >&2; exit 1; }
	@$(PY) tools/set_up.py --torch "$(TORCH)" --pip-options="$(PIPX)" --gpu "$(GPU)"
	@touch $@

# Three fresh phantoms, the bundled model, all fifteen subsets, a report. Trains nothing.
demo: .venv/.ok
	$(BIN)/anymri demo

# The same after training a small network on phantoms.
demo-train: .venv/.ok
	$(BIN)/anymri demo --train

lint: .venv/.ok
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/codespell src tests docs tools experiments benchmarks *.md
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/mypy

# glibc is told to keep freed memory: giving every large array back to the system and fetching it anew took half of the
# time on a virtual machine.
KEEP_MEMORY := MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000

test: lint
	OMP_NUM_THREADS=1 $(KEEP_MEMORY) $(BIN)/pytest -q -n $(JOBS)

# Break the code in one line at a time; a test must notice each.
mutants: .venv/.ok
	OMP_NUM_THREADS=1 $(BIN)/python tools/mutants.py --jobs $(JOBS)

# Renew the locks after a change of constraints.txt or pyproject.toml; needs the program uv (UV=PATH).
UV ?= uv
lock: .venv/.ok
	$(BIN)/python tools/write_lock.py --uv "$(UV)"

# Software bill of materials (CycloneDX).
sbom: .venv/.ok
	$(BIN)/python tools/sbom.py -o anymri.cdx.json

# Compare what is installed with advisories that were downloaded before: make audit ADVISORIES=all.zip
ADVISORIES ?=
audit: .venv/.ok
	@$(BIN)/python tools/audit.py "$(ADVISORIES)"

# Damaged inputs, new ones each time, each in a process of its own; FUZZ_INPUTS of each of the ten kinds.
FUZZ_INPUTS ?= 200
fuzz: .venv/.ok
	FUZZ_INPUTS=$(FUZZ_INPUTS) OMP_NUM_THREADS=1 $(KEEP_MEMORY) $(BIN)/pytest -q --timeout 36000 tests/fuzz

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
