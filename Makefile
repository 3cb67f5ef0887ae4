# One command each. Settings: `.env` (see .env.example) or the environment; `apiq --help` explains them.

SHELL := /bin/bash
export PATH := $(HOME)/.cargo/bin:$(PATH)
BIN := $(or $(CARGO_TARGET_DIR),target)/release/apiq
WITH_ENV := scripts/with-env.sh

.DEFAULT_GOAL := help
.PHONY: help run demo test check check-kms bench fmt clean-data install build

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## install what is missing, build, start everything under .apiq/ and serve (Ctrl-C stops it all)
	@exec $(WITH_ENV) $(BIN) dev

demo: build ## tell the whole story on two sandbox APIs, against a running server or a new one
	@exec $(WITH_ENV) $(BIN) demo

test: ## every test of the workspace
	@scripts/install.sh tests
	@if command -v cargo-nextest >/dev/null; then \
		set -x; cargo nextest run --workspace --locked; \
	else \
		set -x; cargo test --workspace --locked; \
	fi

check: install ## formatting, lints, licences and the tidy rules
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	@command -v cargo-deny >/dev/null || (set -x; cargo install --locked cargo-deny)
	cargo deny check bans licenses sources
	cargo test --workspace --locked --test tidy

check-kms: install ## lints and tests of master keys in key services, which are built by features only
	cargo clippy --workspace --all-targets --locked --features kms-aws,kms-vault -- -D warnings
	cargo test --workspace --locked --bin apiq --features kms-aws,kms-vault master::

bench: install ## what we promise about speed: SUITE=log|ingest, QUICK=1, ONLY=part,of,names
	cargo bench --locked --bench bench -- $(SUITE) $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

fmt: ## format everything
	cargo fmt --all

clean-data: ## delete the data folder for good: database, streams, keys, logs
	@$(WITH_ENV) scripts/clean-data.sh

install:
	@scripts/install.sh

build: install
	cargo build --release --locked
