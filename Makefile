# The verbs. meson and ninja do the work; see CONTRIBUTING.md.
SHELL   := /bin/bash
PYTHON  := /usr/bin/python3
JOBS    ?= $(shell nproc)
BUILD   := build
TEST    := build-test

.DEFAULT_GOAL := all
.PHONY: all build web web-bundle web-test screenshots test-build deps test-deps demo demo-stop test unit sim sim-soak cli e2e gpu vm san fuzz bench lint format install clean help

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /  \1|/p' $(MAKEFILE_LIST) | column -t -s '|'

all: build ## build the program in build/
build: $(BUILD)/build.ninja
	ninja -C $(BUILD) -j$(JOBS)
$(BUILD)/build.ninja:
	meson setup $(BUILD)
test-build: $(TEST)/build.ninja
	ninja -C $(TEST) -j$(JOBS)
$(TEST)/build.ninja:
	meson setup $(TEST) -Dfault_points=true

web: ## build the dashboard alone (building the program does it too)
	tools/web_bundle.py build
WEB_BUNDLE ?= var/web-bundle
web-bundle: ## the dashboard in WEB_BUNDLE=DIR, for builds without Node (meson setup -Dweb_bundle=DIR)
	tools/web_bundle.py export $(WEB_BUNDLE)

deps: ## install what building and running needs (Debian packages)
	tools/deps.sh
test-deps:
	tools/deps.sh --test

demo: ## a whole cluster on this machine, from submit to release (KEEP=1 leaves it running)
	tools/deps.sh
	$(MAKE) build
	KEEP=$(KEEP) tools/demo.sh
demo-stop: ## stop what `make demo KEEP=1` left running
	tools/demo.sh stop

test: test-deps ## every suite; ends with: N passed, N failed, N skipped
	$(MAKE) test-build
	$(PYTHON) tests/run_suites.py --build $(TEST)
unit: test-build ## the unit tests alone
	$(PYTHON) tests/run_suites.py --build $(TEST) --only unit
sim: test-build ## the simulated cluster alone (SEED=N replays one history; STEPS=N its length, KEEP=1,4-7 only these steps, told)
	$(if $(SEED),SIM_SEED=$(SEED)) $(if $(STEPS),SIM_STEPS=$(STEPS)) $(if $(KEEP),SIM_KEEP=$(KEEP)) $(if $(MUTANT),SIM_MUTANT=$(MUTANT)) $(PYTHON) tests/run_suites.py --build $(TEST) --only sim --verbose
SOAK ?= 20000000
sim-soak: test-build ## the same for long: SOAK=20000000 steps over fresh seeds
	SIM_SOAK=$(SOAK) $(TEST)/tests/sim/sim_host --tap
cli: test-build ## the tests of the command line alone
	$(PYTHON) tests/run_suites.py --build $(TEST) --only cli
e2e: test-build ## host, runners and a real Docker Engine (NAME=… picks tests)
	$(PYTHON) tests/run_suites.py --build $(TEST) --only e2e $(if $(NAME),--name $(NAME))
web-test: test-build ## the dashboard in a real browser, on a real cluster (NAME=… picks tests)
	$(PYTHON) tests/run_suites.py --build $(TEST) --only web $(if $(NAME),--name $(NAME))
screenshots: test-deps ## pictures of the dashboard's main views, to docs/images
	$(MAKE) test-build
	KR_BUILD=$(TEST) $(PYTHON) tests/web/run.py screenshots $(CURDIR)/docs/images
gpu: test-build ## the worker against nvidia-smi, on a machine with a real card
	$(PYTHON) tests/run_suites.py --build $(TEST) --only gpu
vm: test-build ## the program on a real kernel with VFIO and emulated cards, in QEMU (NAME=… picks tests)
	$(PYTHON) tests/run_suites.py --build $(TEST) --only vm $(if $(NAME),--name $(NAME))

san: ## unit, sim, cli and fuzz suites under AddressSanitizer and UndefinedBehaviorSanitizer
	[ -d build-san ] || meson setup build-san -Dfault_points=true -Db_sanitize=address,undefined -Db_lundef=false
	ninja -C build-san -j$(JOBS)
	$(PYTHON) tests/run_suites.py --build build-san --only unit,sim,cli,fuzz
FUZZ_SECONDS ?= 60
fuzz: ## libFuzzer on every parser (FUZZ_SECONDS=60 each; needs clang)
	[ -d build-fuzz ] || CC=clang meson setup build-fuzz -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false
	ninja -C build-fuzz -j$(JOBS)
	$(PYTHON) tests/run_suites.py --build build-fuzz --only fuzz --fuzz-seconds $(FUZZ_SECONDS)
bench: build ## the benchmarks, as a table and as JSON
	tools/bench.sh
lint: ## format, clang-tidy, cppcheck, include rules, sizes
	tools/lint.sh
format: ## rewrite the C files in the house format
	git ls-files 'src/*.[ch]' 'tests/*.[ch]' | xargs clang-format -i

install: build ## install under PREFIX (meson's default /usr/local); DESTDIR works
	meson install -C $(BUILD) --no-rebuild
clean: ## remove the build folders
	rm -rf build build-test build-san build-fuzz build-clang
