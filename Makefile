# Development without a ROS installation: `make` lists the targets. On a robot, use colcon (see README.md).
PYTHON ?= python3
VENV := .venv
LOCK := requirements/venv.txt
MSG_FILES := $(wildcard msg/*.* msg/*/*.*)
PACKAGE_FILES := setup.py setup.cfg pyproject.toml package.xml $(wildcard resource/* config/* launch/*)

PIP_INSTALL := $(VENV)/bin/python -m pip install --quiet --quiet --disable-pip-version-check
refuse = { echo "make venv: $(1)." >&2; exit 1; }

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv check-host lint format test test-all demo demo-two-days demo-two-robots clean

export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
# A sourced ROS installation, or the Python of another environment, must not reach into this one.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH
unexport LD_LIBRARY_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

venv: $(VENV)/.package ## make .venv: pinned packages, messages, this package (PYTHON=... chooses the Python)

lint: venv ## check format, style and types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

format: venv ## bring the code into format, and mend what ruff can mend
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

test: venv ## run the fast tests
	$(VENV)/bin/pytest

test-all: venv ## run all tests that this machine can run
	$(VENV)/bin/pytest -m ''

demo: venv ## drive a synthetic loop and report on it in demo_output/
	$(VENV)/bin/tscm demo --out demo_output

demo-two-days: venv ## drive on yesterday's map, then only look into it; report in demo_two_days/
	$(VENV)/bin/tscm demo two-days --out demo_two_days

demo-two-robots: venv ## two robots that recognise each other's places; report in demo_two_robots/
	$(VENV)/bin/tscm demo two-robots --out demo_two_robots

clean: ## remove .venv and everything that was built
	rm -rf $(VENV) build install log demo_output demo_two_days demo_two_robots msg/build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -rf *.egg-info msg/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Three steps, so that a changed message does not install PyTorch again.
$(VENV)/.lock: $(LOCK)
	@$(MAKE) --no-print-directory check-host
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP_INSTALL) -r $(LOCK)
	@touch $@

$(VENV)/.messages: $(VENV)/.lock $(MSG_FILES)
	$(PIP_INSTALL) --no-build-isolation --no-deps --force-reinstall ./msg
	@rm -rf msg/build msg/*.egg-info
	@touch $@

$(VENV)/.package: $(VENV)/.messages $(PACKAGE_FILES)
	$(PIP_INSTALL) --no-build-isolation --no-deps --editable .
	@# An editable installation leaves share/ out: launch and configuration files, ament index.
	PYTHONWARNINGS=ignore $(VENV)/bin/python setup.py --quiet install_data --install-dir $(VENV)
	@touch $@

# Each line ends with one sentence that says what is missing and what to do.
check-host:
	@$(PYTHON) -c '' 2> /dev/null || \
		$(call refuse,there is no $(PYTHON) here; install Python 3.10 to 3.13 or name another (PYTHON=python3.12))
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
		$(call refuse,$$($(PYTHON) --version 2>&1) will not do because the ROS wheels need Python 3.10 to 3.13; name another (PYTHON=python3.12))
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || \
		$(call refuse,$(PYTHON) has no venv module; install it (apt install python3-venv))
	@$(PYTHON) -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' 2> /dev/null || \
		$(call refuse,$(PYTHON) has no header files to build the messages with; install them (apt install python3-dev))
	@{ command -v $(CC) && command -v $(CXX); } > /dev/null || \
		$(call refuse,there is no C and C++ compiler to build the messages with; install one (apt install build-essential))
	@[ "$$(uname -sm)" = "Linux x86_64" ] || \
		$(call refuse,the ROS wheels are for Linux on x86_64 and this is $$(uname -sm); use colcon with ROS from apt instead)
