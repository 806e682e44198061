# Everything that can be done here has a name; `make` alone lists them.
# What a fresh Debian 12 machine lacks is installed by `make setup`, which the other targets call.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

CACHE ?= $(HOME)/.cache/windlass
export WINDLASS_CACHE := $(CACHE)
GUESTS := $(CACHE)/components
TARGET := $(or $(CARGO_TARGET_DIR),target)
RELEASE := $(abspath $(TARGET))/release/windlass

.PHONY: help setup guests build release demo test lint bench install

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: ## install what this machine lacks (Debian: mkfs.xfs, strace; the Wasm target)
	@tools/setup

guests: setup ## build the plugins and the tests' components to WebAssembly
	@tools/guest all $(GUESTS)

build: guests ## build the daemon, with the embedded `local` driver
	@WINDLASS_LOCAL_WASM=$(GUESTS)/local.wasm cargo build --locked --workspace

release: guests ## build the daemon as it is shipped
	@WINDLASS_LOCAL_WASM=$(GUESTS)/local.wasm cargo build --locked --release --workspace

demo: build ## show its main job, step by step, on real devices
	@WINDLASS_GUESTS=$(GUESTS) $(abspath $(TARGET))/debug/windlass-demo

test: ## run every tier: unit, plugin_, loop_
	@tools/setup test
	tools/test $(GUESTS)

lint: ## formatting, clippy, dependencies, the shape of the tree
	@WINDLASS_LOCAL_WASM=$(GUESTS)/local.wasm tools/lint

bench: release ## measure: plugin calls, reloads, memory, stages; prints ratios
	@WINDLASS_GUESTS=$(GUESTS) $(abspath $(TARGET))/release/windlass-bench

install: release ## put the binary into /usr/local/bin
	@install -m 0755 $(RELEASE) /usr/local/bin/windlass
