# The front door: every target installs what it is missing (tools/setup) and then calls one script.
# The build itself is CMake and Ninja, see CMakeLists.txt.

PREFIX  ?= /usr/local
SECONDS ?= 300
SEEDS   ?= 2000
MINUTES ?= 10
SWEEP   ?= 54
POINTS  ?= 60
FIRST   ?= 1
CC      := gcc
PYTHON  := /usr/bin/python3

.PHONY: all release debug run test test-unit test-integration lint fmt fuzz sim soak clients bench install clean help

all: release

help:
	@echo 'make                 release build in build/release'
	@echo 'make run             demo origin on 127.0.0.1:8081, Sentinel on 0.0.0.0:8080'
	@echo 'make test            every suite, under ASan and UBSan; ends with "N passed, N failed"'
	@echo 'make test-unit       unit tests, fuzzers and the simulator only'
	@echo 'make test-integration  black-box scenarios only'
	@echo 'make lint            clang-format, tools/tidy, clang-tidy, cppcheck'
	@echo 'make fmt             format the C sources'
	@echo 'make fuzz            fuzz for SECONDS=300 in all'
	@echo 'make sim SEEDS=2000  simulate, from seed FIRST=1; of SWEEP=54 seeds let allocations and'
	@echo '                     calls fail in turn, POINTS=60 of each (0: every one)'
	@echo 'make soak MINUTES=10 mixed traffic with faults; ends with PASS or FAIL and figures'
	@echo 'make clients         testssl.sh, a headless Chromium and node against TLS'
	@echo 'make bench           CPU per request against nginx and haproxy'
	@echo 'make install         PREFIX=/usr/local DESTDIR='
	@echo 'make clean           remove build/'

release:
	@tools/setup build
	@tools/build release sentinel

debug:
	@tools/setup build
	@tools/build asan sentinel

run:
	@tools/setup run
	@tools/build release sentinel
	@exec $(PYTHON) tools/demo.py build/release/sentinel

test:
	@tools/setup test
	@tools/promtool || true
	@exec $(PYTHON) tools/run_tests.py

test-unit:
	@tools/setup test
	@exec $(PYTHON) tools/run_tests.py --only tidy,unit,fuzz,sim,conformance

test-integration:
	@tools/setup test
	@tools/promtool || true
	@exec $(PYTHON) tools/run_tests.py --only blackbox

lint:
	@tools/setup lint
	@tools/lint

fmt:
	@tools/setup lint
	@tools/fmt

fuzz:
	@tools/setup test
	@exec $(PYTHON) tools/run_tests.py --only fuzz --fuzz-seconds $(SECONDS)

sim:
	@tools/setup test
	@exec $(PYTHON) tools/run_tests.py --only sim --seeds $(SEEDS) --first-seed $(FIRST) \
	    --sweep-seeds $(SWEEP) --sweep-points $(POINTS)

soak:
	@tools/setup build
	@tools/build release sentinel
	@exec $(PYTHON) tests/soak/run.py build/release/sentinel --minutes $(MINUTES)

clients:
	@tools/setup clients
	@tools/build release sentinel
	@exec $(PYTHON) tests/clients/run.py build/release/sentinel

bench:
	@tools/setup bench
	@tools/build release sentinel
	@exec $(PYTHON) bench/run.py

install: release
	@DESTDIR="$(DESTDIR)" cmake --install build/release --prefix "$(PREFIX)"

clean:
	rm -rf build
