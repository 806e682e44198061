# Everything that can be done here has a name; `make` alone lists them.
# What a fresh Debian 12 machine lacks, but for make, git and cargo, is installed by `make setup`, which the targets that build call.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

CACHE ?= $(HOME)/.cache/windlass
export WINDLASS_CACHE := $(CACHE)
GUESTS := $(CACHE)/components
TARGET := $(or $(CARGO_TARGET_DIR),target)
RELEASE := $(abspath $(TARGET))/release/windlass

.PHONY: help setup setup-vm guests build release demo demo-rbd test test-vm torture lint bench bench-rbd install

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: ## install what this machine lacks (Debian: gcc, mkfs, strace)
	@tools/setup

setup-vm: ## install what the vm_ tests need (Debian: Ceph, qemu; a kernel into the cache)
	@tools/setup vm

guests: setup ## build the plugins and the tests' components to WebAssembly
	@tools/guest all $(GUESTS)

build: guests ## build the daemon, with the embedded `local` driver
	@WINDLASS_LOCAL_WASM=$(GUESTS)/local.wasm cargo build --locked --workspace

release: guests ## build the daemon as it is shipped
	@# The tests' own binaries are left out: each would be linked and optimised with wasmtime once more.
	@WINDLASS_LOCAL_WASM=$(GUESTS)/local.wasm cargo build --locked --release --workspace --bin windlass --bin windlass-bench --bin windlass-test-agent

demo: build ## show its main job, step by step, on real devices
	@WINDLASS_GUESTS=$(GUESTS) $(abspath $(TARGET))/debug/windlass-demo

demo-rbd: build ## show the same on a real Ceph cluster, with a node in a virtual machine
	@tools/setup vm
	@WINDLASS_GUESTS=$(GUESTS) $(abspath $(TARGET))/debug/windlass-demo rbd

test: ## run every tier: unit, plugin_, loop_, ceph_, and the short part of vm_
	@tools/setup test
	tools/test $(GUESTS)

test-vm: ## run the whole tier vm_: a kernel with RBD in a virtual machine, a real Ceph cluster
	@tools/setup
	tools/test $(GUESTS) vm

torture: build ## what takes longer, or silences a cluster at random moments: not part of CI
	@tools/setup test
	tools/setup vm
	export WINDLASS_LOCAL_WASM=$(GUESTS)/local.wasm WINDLASS_GUESTS=$(GUESTS)
	WINDLASS_MODEL_SEED=random WINDLASS_MODEL_CASES=100000 timeout -k 10 3600 cargo test --locked --workspace --test model -- --nocapture
	WINDLASS_MODEL_SEED=random WINDLASS_MODEL_CASES=2000 timeout -k 10 3600 cargo test --locked --workspace --test suite -- --nocapture model::
	timeout -k 10 7200 cargo test --locked --workspace --test suite -- --nocapture --test-threads 1 vm::torture
	timeout -k 10 3600 cargo test --locked --workspace --test cluster -- --nocapture half_way

lint: guests ## formatting, clippy, dependencies
	@tools/setup test
	@WINDLASS_LOCAL_WASM=$(GUESTS)/local.wasm tools/lint

bench: release ## measure: plugin calls, reloads, memory, stages; prints ratios
	@WINDLASS_GUESTS=$(GUESTS) $(abspath $(TARGET))/release/windlass-bench

bench-rbd: release ## measure on a real Ceph cluster, beside bare system calls and beside programs
	@tools/setup vm
	@WINDLASS_GUESTS=$(GUESTS) $(abspath $(TARGET))/release/windlass-bench rbd

install: release ## put the binary into /usr/local/bin
	@install -m 0755 $(RELEASE) /usr/local/bin/windlass
