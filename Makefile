# Seam: everything a person types. `make` alone lists the targets.
#
# One cargo profile (dev) serves demo, test and verify, so that a checkout compiles everything
# once; Bitcoin Core is compiled once whatever the profile. Only `bench` uses the release profile.

SHELL := /bin/bash
# A Rust installed by scripts/setup a moment ago is not yet in the caller's PATH.
export PATH := $(HOME)/.cargo/bin:$(PATH)
CARGO ?= cargo
ARGS ?=

.PHONY: help setup build demo test simulate chaos fuzz verify fix bench

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1|/' | \
		while IFS='|' read -r name text; do printf '  make %-8s %s\n' "$$name" "$$text"; done

setup: ## install what the build needs (Debian packages, Rust, cargo-nextest)
	@scripts/setup

build: setup ## compile every program (the first time compiles Bitcoin Core: 5 to 10 minutes on two cores)
	@scripts/build

demo: build ## start a local cluster on regtest, mine through it, tell what happens; ARGS=--exit ends after the story
	@scripts/demo $(ARGS)

test: setup ## run every test
	@scripts/test $(ARGS)

simulate: setup ## simulate the cluster through many bad days; ARGS=N tells how many (100000)
	@scripts/simulate $(ARGS)

chaos: setup ## let everything go wrong with a cluster under load (as root); ARGS=SECONDS tells how long (3600)
	@scripts/chaos $(ARGS)

fuzz: setup ## throw damaged input at every parser; ARGS=SECONDS for each (600)
	@scripts/fuzz $(ARGS)

verify: ## check format, lints, documentation, licences; changes nothing
	@scripts/verify

fix: ## put format, lints and the list of licences right
	$(CARGO) fmt --all
	$(CARGO) clippy --workspace --all-targets --locked --fix --allow-dirty --allow-staged
	scripts/third-party > THIRD-PARTY.md

bench: setup ## measure everything that is compared and write docs/benchmarks.md; ARGS="--only shares" prints that only
	@scripts/bench $(ARGS)
