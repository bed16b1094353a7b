# Everything sets itself up on a machine with Rust, a C toolchain and Python 3.10 or newer; Java 17 and Maven for the real Kafka.
# One cargo profile (release) everywhere: librdkafka and OpenSSL, three to four minutes, are compiled once for build, lint,
# tests, benches and the Python module.

PYTHON ?= python3
CARGO  ?= cargo
DEMO_SECONDS ?= 30
BENCH_ARGS ?=
PREFIX ?= /usr/local
DESTDIR ?=
LIBDIR ?= lib
PYTEST_ARGS ?=

VENV := $(CURDIR)/.venv
BIN  := $(VENV)/bin
# As maturin sets them: when clippy, tests and maturin differ here, each rebuilds what another has built.
export PYO3_PYTHON := $(BIN)/python
export PYO3_BUILD_EXTENSION_MODULE := 1
export PYO3_ENVIRONMENT_SIGNATURE := $(shell $(PYTHON) -c \
    'import struct, sys; print("cpython-%d.%d-%dbit" % (*sys.version_info[:2], struct.calcsize("P") * 8))')
export VIRTUAL_ENV := $(VENV)
export PYTHONPATH  := $(CURDIR)/tests
export PATH := $(BIN):$(PATH)
unexport PYTHONHOME

RUST_SOURCES := $(shell find core python/src -type f) python/Cargo.toml Cargo.toml Cargo.lock

# The suites, as `tools/suites.py` takes them.
PYTHON_FILES := python tests tools benches
RUSTFMT := --check rustfmt '$(CARGO) fmt --all --check'
CLIPPY  := --check clippy '$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings'
RUFF    := --check ruff 'ruff check $(PYTHON_FILES) && ruff format --check $(PYTHON_FILES)'
MYPY    := --check mypy 'mypy --config-file python/pyproject.toml'
STUBS   := --check stubtest 'ls python/tidegate/_core.pyi && python -m mypy.stubtest tidegate._core tidegate.confluent --mypy-config-file python/pyproject.toml'
LINT    := $(RUSTFMT) $(CLIPPY) $(RUFF) $(MYPY) $(STUBS)
RUST_EMBEDDED := --test rust '$(CARGO) test --release --workspace --locked --no-fail-fast'
RUST_KAFKA    := --check rust-build '$(CARGO) test --release --workspace --locked --no-run' \
                 --test rust 'python -m harness.kafka run --optional -- $(CARGO) test --release --workspace --locked --no-fail-fast'
# A second build of the engine, without mimalloc, is what the tools watch.
C_SUITE    := python tests/c/run.py
C_EMBEDDED := --test c '$(C_SUITE)'
C_KAFKA    := --test c 'python -m harness.kafka run --optional -- $(C_SUITE)'
PYTEST   := pytest tests/python $(PYTEST_ARGS)
EMBEDDED := -m "not (kafka or kafka3 or redis or slow or chaos)"
ifeq ($(PYTEST_ARGS),)
# Most tests wait, for sessions to end and brokers to come back, so two processes run at the same time, each with servers of its own:
# those that kill and stop things beside all others; on the embedded broker one half of the names beside the other.
KILLING := $(patsubst %,tests/python/test_kafka_%.py,chain direct_send exactly_once exit latest outage process process_map process_outage stages)
BESIDE  := --override-ini cache_dir=.pytest_cache/beside
PYTHON_EMBEDDED := --test python 'pytest tests/python/test_[a-m]*.py $(EMBEDDED)' \
                   --beside python-others 'pytest tests/python --ignore-glob="*/test_[a-m]*.py" $(EMBEDDED) $(BESIDE)'
PYTHON_KAFKA    := --test python 'pytest $(KILLING)' \
                   --beside python-others 'pytest tests/python $(KILLING:%=--ignore=%) $(BESIDE)'
else
PYTHON_EMBEDDED := --test python '$(PYTEST) $(EMBEDDED)'
PYTHON_KAFKA    := --test python '$(PYTEST)'
endif
# A second one means that features, profile or environment differ between two of the commands here, at the cost of minutes.
ONE_LIBRDKAFKA  := --check 'librdkafka compiled once' \
                   'ls -d $${CARGO_TARGET_DIR:-target}/release/build/rdkafka-sys-*/out && [ $$(ls -d $${CARGO_TARGET_DIR:-target}/release/build/rdkafka-sys-*/out | wc -l) = 1 ]'
SUITES := $(PYTHON) tools/suites.py

.PHONY: help
help: ## What can be made (this list)
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

.PHONY: setup
setup: $(VENV)/.native ## The virtual environment .venv with all tools and the built package

.PHONY: demo
demo: setup ## The whole pipeline on an embedded broker, with a table at the end (DEMO_SECONDS=30)
	tidegate pipeline --mode e2e --duration $(DEMO_SECONDS)

.PHONY: test
test: setup ## All tests: Rust, C, C++ and Python, embedded broker, real Kafka, real Redis (under 40 minutes)
	@$(SUITES) $(RUST_KAFKA) $(C_KAFKA) $(PYTHON_KAFKA)

.PHONY: test-c
test-c: setup ## The C and C++ suites, headers, examples and the installation; embedded broker and real Kafka
	@$(SUITES) $(C_KAFKA)

.PHONY: test-c-valgrind
test-c-valgrind: setup ## The C and C++ suites under valgrind: no error, no leak
	@$(SUITES) --test c-valgrind '$(C_SUITE) --tool valgrind'

.PHONY: test-c-asan
test-c-asan: setup ## The C and C++ suites under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(SUITES) --test c-asan '$(C_SUITE) --tool asan'

.PHONY: test-c-tsan
test-c-tsan: setup ## The C and C++ suites under ThreadSanitizer
	@$(SUITES) --test c-tsan '$(C_SUITE) --tool tsan'

.PHONY: check
check: setup ## Lint, unit tests and tests on the embedded broker (some minutes once built)
	@$(SUITES) $(LINT) $(RUST_EMBEDDED) $(C_EMBEDDED) $(PYTHON_EMBEDDED)

.PHONY: ci
ci: setup ## What .ci/run runs: lint and all tests
	@$(SUITES) $(LINT) $(RUST_KAFKA) $(C_KAFKA) $(PYTHON_KAFKA) $(ONE_LIBRDKAFKA)

.PHONY: install
install: ## The C and C++ library with its headers, for pkg-config and CMake (PREFIX=/usr/local)
	$(CARGO) build --release --locked --package tidegate-ffi
	DESTDIR='$(DESTDIR)' LIBDIR='$(LIBDIR)' ffi/install/install.sh '$(PREFIX)'

.PHONY: chaos
chaos: ## The long form of the failure tests on a real Kafka, half an hour (installs redis-server if it can)
	@tools/packages.sh
	@$(MAKE) --no-print-directory setup
	@TIDEGATE_REQUIRE_KAFKA=1 TIDEGATE_REQUIRE_REDIS=1 TIDEGATE_SUITE_LIMIT_S=14400 $(SUITES) --test chaos '$(PYTEST) --chaos -m chaos'

.PHONY: miri
miri: ## The engine's parts without FFI under Miri (needs rustup's nightly with the components miri and rust-src)
	MIRIFLAGS=-Zmiri-disable-isolation $(CARGO) +nightly miri test --package tidegate-model --target-dir target/miri

.PHONY: bench
bench: setup ## Tidegate beside its peers on a real Kafka (BENCH_ARGS=--quick)
	python benches/run.py $(BENCH_ARGS)

.PHONY: lint
lint: setup ## Formatting, clippy, ruff, mypy
	@$(SUITES) $(LINT)

.PHONY: fmt
fmt: $(VENV)/.tools ## Format Rust and Python
	$(CARGO) fmt --all
	ruff check --fix-only --quiet $(PYTHON_FILES)
	ruff format $(PYTHON_FILES)

.PHONY: doc
doc: $(VENV)/.tools ## Rust's reference documentation, in target/doc
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --release --workspace --no-deps --locked

.PHONY: lock
lock: $(VENV)/.tools ## Newer versions of the Python tools, into python/requirements-dev.lock
	pip install --quiet uv
	UV_PYTHON_DOWNLOADS=never uv pip compile --quiet --upgrade --universal --python-version 3.10 --no-emit-index-url --no-header \
	    --no-annotate --output-file python/requirements-dev.lock python/requirements-dev.in

.PHONY: clean
clean: ## Remove everything that was built or fetched
	rm -rf target .venv .cache python/tidegate/_core*.so
	find . -name __pycache__ -prune -exec rm -rf {} +

# The tools, again when their versions change.
$(VENV)/.tools: python/requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed; set PYTHON=" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement python/requirements-dev.lock
	@touch $@

# The package, editable: again when Rust sources or its metadata change; edited Python files need nothing.
$(VENV)/.native: $(VENV)/.tools $(RUST_SOURCES) python/pyproject.toml
	@echo 'building the native module: some minutes the first time (OpenSSL, librdkafka), seconds after that'
	PIP_QUIET=1 $(BIN)/maturin develop --release --locked --quiet --manifest-path python/Cargo.toml
	@touch $@
