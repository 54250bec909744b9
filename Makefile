# hafleet's own commands. Each installs what it needs first: see scripts/setup.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
READY := .venv/.ready
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 4 ? n + 1 : 4)))
# Tests on real processes wait more than they work.
PROCESS_WORKERS ?= $(shell echo $$(($(WORKERS) + 1)))
# Machines wait, too; a file of tests is one worker's, and an image is baked once for all.
AMI_WORKERS ?= 2
AMI_TESTS ?= tests/ansible
SOAK_MINUTES ?= 20
# What follows a command, e.g. make demo ARGS=--json
ARGS ?=

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup ## a local AWS and a fleet that follows it under traffic (ARGS=--json for machines)
	@$(BIN)/hafleet demo $(ARGS)

.PHONY: test
test: lint types contracts haproxies ## everything: lint, types, layers, all tests on each HAProxy, coverage of the core
	@echo '== unit tests'
	@$(BIN)/pytest tests/unit -n $(WORKERS) --dist loadgroup --cov=hafleet.core --cov-report= $(ARGS)
	@$(BIN)/coverage report --include='hafleet/core/*' --fail-under=100
	@echo '== tests on real processes'
	@scripts/pytest-alone tests --ignore=tests/unit -n $(PROCESS_WORKERS) --dist loadgroup $(ARGS)

.PHONY: deep
deep: haproxies ## what `make test` leaves out: the demo and the traffic tests on each HAProxy, more random pairs and interleavings
	@echo '== deep tests'
	@HAFLEET_DEEP=only scripts/pytest-alone tests -n $(PROCESS_WORKERS) --dist loadgroup $(ARGS)
	@HAFLEET_DEEP=1 HAFLEET_EXAMPLES=100 $(BIN)/pytest tests/integration/test_proxy_property.py \
		tests/behaviour/test_dns_interleavings.py -n $(WORKERS) --dist loadgroup $(ARGS)

.PHONY: unit
unit: setup ## the fast tests only
	@$(BIN)/pytest tests/unit -n $(WORKERS) --dist loadgroup $(ARGS)

.PHONY: lint
lint: setup ## style, format and the lock
	@echo '== lint'
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python scripts/lock.py --check

.PHONY: types
types: setup ## mypy, strict
	@echo '== types'
	@$(BIN)/mypy

.PHONY: contracts
contracts: setup ## which module may know which (import-linter)
	@echo '== layers'
	@NO_COLOR=1 $(BIN)/lint-imports --no-cache 2>&1 | sed -n '/^Contracts$$/,$$p'

.PHONY: format
format: setup ## formats the code
	@$(BIN)/ruff check --fix --exit-zero --quiet .
	@$(BIN)/ruff format .

.PHONY: haproxies
haproxies: setup ## fetches HAProxy 3.0 and 3.2 into .cache, beside the system's
	@echo '== HAProxy versions'
	@$(BIN)/python -m hafleet.lab.haproxies fetch

.PHONY: bench
bench: setup ## prints figures as JSON, beside the floor of this machine
	@$(BIN)/python -m tests.bench $(ARGS)

.PHONY: soak
soak: haproxies ## churn under load on each HAProxy for SOAK_MINUTES=20
	@$(BIN)/python -m tests.soak --each --minutes $(SOAK_MINUTES) $(ARGS)

.PHONY: lock
lock: setup ## locks the dependencies (ARGS=--upgrade for newer ones); no host is written down
	@$(BIN)/python scripts/lock.py $(ARGS)

.PHONY: deb
deb: setup ## the Debian package, into dist/ (ARGS='--arch arm64 --version 0.1.0-2')
	@$(BIN)/python scripts/deb.py $(ARGS)

.PHONY: ansible-lint
ansible-lint: setup ## the role and the playbooks, against ansible-lint's profile "production"
	@echo '== ansible-lint'
	@scripts/setup ansible
	@cd ansible && PATH="$(CURDIR)/.cache/ansible/bin:$$PATH" ansible-lint --profile production --offline $(ARGS)

.PHONY: test-ami
test-ami: setup ## bakes Debian images by the role, boots nodes and fleets from them (needs root; HAFLEET_SUITES=bookworm for one)
	@echo '== images'
	@if [[ $$(id -u) -eq 0 ]]; then scripts/setup ami; fi
	@scripts/setup ansible
	@HAFLEET_AMI=1 HAFLEET_SUITES="$${HAFLEET_SUITES:-bookworm trixie}" $(BIN)/pytest $(AMI_TESTS) -n $(AMI_WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: setup
setup: $(READY) ## installs HAProxy, OpenSSL and Python packages where they are missing

.PHONY: system
system:
	@scripts/setup system

$(READY): pyproject.toml uv.lock scripts/setup | system
	@scripts/setup python
	@touch $@
