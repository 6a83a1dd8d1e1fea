# Two commands do everything from a bare clone:
#   make study   set up, then study AlexNet on the paper's machines and on this one
#   make test    set up, then lint, type-check and test
#   make bench   set up with the libraries that are peers, measure, write docs/benchmarks.md
# They need python3 (3.11 or newer) with venv, and a C compiler; cmake and ninja come from PyPI.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# tools call one another (cython-lint runs pycodestyle)
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: study test test-train setup lint types check-dist sanitize sanitize-threads check-cross \
	bench bench-quick bench-setup clean

# what the built extension depends on
NATIVE := CMakeLists.txt pyproject.toml $(wildcard kernels/*.pyx kernels/*.pxd kernels/binding/* kernels/csrc/*)

setup: $(READY)

$(READY): $(NATIVE)
	@command -v $(PYTHON) >/dev/null || { echo "python3 is missing: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; say which with: make PYTHON=python3.12 ..."; exit 1; }
	@command -v $${CC:-cc} >/dev/null || { echo "a C compiler is missing: apt-get install gcc libc6-dev"; exit 1; }
	@echo "== setting up $(VENV): virtual environment, build tools, archsim with its native kernels"
	@$(PYTHON) -m venv $(VENV) || { echo "venv is missing: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "scikit-build-core>=1.1" "cython>=3.1" "cython-cmake>=0.3" cmake ninja
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation $(PIP_FLAGS) --editable ".[report,dev]"
	@touch $(READY)

study: $(READY)
	@echo "== studying AlexNet on Atom C2750, two Xeon E5-2697 v4, Xeon Phi 7250 and this host"
	$(BIN)/archsim study alexnet -o study
	$(BIN)/python -m benchmarks.proof html study/pruning.html
	@echo "== done: open study/report.html; study/pruning.html is what pruning gave (docs/pruning.md)"

test: $(READY) lint types
	@echo "== tests"
	$(BIN)/python -m pytest -q

# What trains needs torch, which is not installed by default; its usual wheels bring gigabytes for
# graphics cards: PIP_EXTRA_INDEX_URL may name an index with wheels for CPUs.
test-train: $(READY)
	@echo "== tests of training"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable ".[report,dev,train]"
	$(BIN)/python -m pytest -q tests/training tests/test_examples.py

lint: $(READY)
	@echo "== lint"
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/cython-lint kernels/*.pyx kernels/*.pxd kernels/binding/*.pxi

types: $(READY)
	@echo "== types"
	$(BIN)/mypy

# The kernels' tests, and the C program that checks kernels, drivers and pool, under sanitizers; the
# first finding is a failure. Leaks: the interpreter's own are many, so only the program is asked.
# Fused multiply-adds, by which one test knows a set, are torn apart by the checks between.
SANITIZED := build/sanitize
SANITIZERS := address,undefined
ASAN := allocator_may_return_null=1
# A child of a program with threads inherits the locks of the sanitizers' allocators as they are (libasan
# of gcc 12: its new threads wait for one for ever), so forks are checked in a plain build.
UNFORKED := tiles layers chains probes threads

sanitize: sanitize-threads
	@echo "== address and undefined behaviour sanitizers"
	$(MAKE) setup VENV=$(SANITIZED)/venv PIP_FLAGS="-Cbuild-dir=$(SANITIZED)/native \
		-Ccmake.define.ARCHSIM_SANITIZE=$(SANITIZERS) -Ccmake.define.ARCHSIM_CHECKS=ON"
	$(SANITIZED)/venv/bin/cmake --build $(SANITIZED)/native
	ASAN_OPTIONS=$(ASAN) $(SANITIZED)/native/tests/native/check_kernels $(UNFORKED)
	ASAN_OPTIONS=$(ASAN):detect_leaks=0 LD_PRELOAD="$$($${CC:-cc} -print-file-name=libasan.so)" \
		$(SANITIZED)/venv/bin/python -m pytest -q tests/kernels \
		--deselect tests/kernels/test_isa.py::test_the_forced_set_is_the_running_one

sanitize-threads: $(READY)
	@echo "== thread sanitizer"
	$(BIN)/cmake -S . -B $(SANITIZED)/threads -G Ninja -DARCHSIM_CHECKS=ONLY -DARCHSIM_SANITIZE=thread >/dev/null
	$(BIN)/cmake --build $(SANITIZED)/threads
	$(SANITIZED)/threads/tests/native/check_kernels chains probes threads
	@echo "== forks, without sanitizers"
	$(BIN)/cmake -S . -B $(SANITIZED)/plain -G Ninja -DARCHSIM_CHECKS=ONLY >/dev/null
	$(BIN)/cmake --build $(SANITIZED)/plain
	$(SANITIZED)/plain/tests/native/check_kernels forks

# the same C program on old x86 CPUs and on aarch64, as far as they can be emulated here
check-cross: $(READY)
	@echo "== other CPUs"
	$(BIN)/python tests/native/cross.py build/cross

# The peers live in an environment of their own, which sees archsim and its tools in $(VENV). Torch's
# usual wheels bring gigabytes for graphics cards; PIP_EXTRA_INDEX_URL may name an index with wheels
# for CPUs.
BENCH_VENV  ?= .venv-bench
BENCH_READY := $(BENCH_VENV)/.ready
BENCH       := $(BENCH_VENV)/bin/python -m benchmarks

$(BENCH_READY): pyproject.toml | $(READY)
	@echo "== setting up $(BENCH_VENV): torch, onnxruntime, OpenVINO, MKL"
	@$(PYTHON) -m venv $(BENCH_VENV)
	@site() { $$1/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }; \
	  echo "import site; site.addsitedir('$$(site $(abspath $(VENV)))')" > "$$(site $(BENCH_VENV))/archsim-env.pth"
	@$(BENCH_VENV)/bin/python -m benchmarks.requirements > $(BENCH_VENV)/requirements.txt
	@$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $(BENCH_VENV)/requirements.txt
	@touch $(BENCH_READY)

# DeepSparse needs Python 3.8 to 3.11 and an old NumPy. Without such a Python the benchmarks say that
# it is left out.
DEEPSPARSE_PYTHON ?= $(firstword $(shell for p in python3.11 python3.10 python3.9 $(PYTHON); do \
	$$p -c 'import sys; sys.exit(not (3, 8) <= sys.version_info < (3, 12))' 2>/dev/null && echo $$p; done))
DEEPSPARSE_READY  := .venv-deepsparse/.ready

$(DEEPSPARSE_READY): benchmarks/requirements-deepsparse.txt
	@if [ -z "$(DEEPSPARSE_PYTHON)" ]; then \
	  echo "== DeepSparse is left out: it needs Python 3.8 to 3.11 (name one: make DEEPSPARSE_PYTHON=...)"; \
	else \
	  echo "== setting up .venv-deepsparse with $(DEEPSPARSE_PYTHON)"; \
	  { $(DEEPSPARSE_PYTHON) -m venv .venv-deepsparse && .venv-deepsparse/bin/python -m pip install --quiet \
	    --disable-pip-version-check -r benchmarks/requirements-deepsparse.txt && touch $(DEEPSPARSE_READY); } \
	  || { rm -rf .venv-deepsparse; echo "== DeepSparse is left out: it could not be installed"; }; \
	fi

bench-setup: $(READY) $(BENCH_READY) $(DEEPSPARSE_READY)

bench: bench-setup
	@echo "== measuring: some 15 minutes; Ctrl-C loses nothing (then: make bench BENCH_ARGS=--resume)"
	$(BENCH) run $(BENCH_ARGS)
	$(BENCH) summary

bench-quick: bench-setup
	@echo "== measuring two layers"
	$(BENCH) run quick --seconds 3 --json build/benchmarks-quick.json $(BENCH_ARGS)
	$(BENCH) show --json build/benchmarks-quick.json

# source distribution -> wheel -> empty environment -> tests against the installed wheel
check-dist: $(READY)
	@echo "== distribution"
	rm -rf build/dist && $(BIN)/python -m build --quiet --outdir build/dist .
	$(PYTHON) -m venv --clear build/empty
	build/empty/bin/python -m pip install --quiet --disable-pip-version-check build/dist/*.whl
	build/empty/bin/archsim validate projections --check >/dev/null
	build/empty/bin/python -m pip install --quiet --disable-pip-version-check pytest hypothesis "jinja2>=3.1" "plotly>=6.0"
	build/empty/bin/python -m pytest -q tests

clean:
	rm -rf $(VENV) $(BENCH_VENV) .venv-deepsparse build study
