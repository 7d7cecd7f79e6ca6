# Two commands do everything: `make demo` and `make test`. Both set up what is missing.

CARGO ?= cargo

# The module that `make conformance` looks at.
MODULE ?=
export MODULE

.PHONY: help setup examples build demo orders test conformance soak check fmt clippy doc bench clean

help: ## This list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

setup: ## What compiling needs: a way to compile modules to WebAssembly, and nextest
	@sh sdk/setup.sh
	@$(CARGO) nextest --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-nextest

examples: ## What the example modules in C, JavaScript and Python are built with
	@sh examples/modules/setup.sh

build: setup ## The binary, target/release/millstream
	$(CARGO) build --release -p millstream

demo: setup ## The January 2013 flights through a broker, four modules, and a SIGKILL
	$(CARGO) build --release -p millstream -p flights-demo
	target/release/flights-demo

orders: setup ## A shop's orders: four services, a bank that fails, workers that die, and books that must balance
	$(CARGO) build --release -p millstream -p orders-demo
	target/release/orders-demo

test: setup examples ## Every test
	$(CARGO) nextest run --workspace
	$(CARGO) test --workspace --doc

conformance: setup ## MODULE=FILE.wasm: whether an order desk of yours does what the examples do
	$(CARGO) nextest run --workspace --test conformance --run-ignored only

soak: setup ## The long forms of the tests that kill, break and shuffle: about an hour
	MILLSTREAM_SOAK=1 $(CARGO) nextest run --workspace --profile soak \
		-E 'test(/crash/) | test(/compaction/) | test(/workers/) | test(/group/) | test(/shard/) | test(/network/) | package(millstream-store)'

check: fmt clippy doc ## Format, lints, docs: as CI does

fmt:
	$(CARGO) fmt --all -- --check

clippy:
	$(CARGO) clippy --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

bench: build ## This machine's limits, and Millstream beside them
	target/release/millstream bench all

clean:
	$(CARGO) clean
