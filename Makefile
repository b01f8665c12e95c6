# What a newcomer needs. Everything stays in this checkout (target/), except what `deps` installs with apt.

.DEFAULT_GOAL := help
.PHONY: help deps peers demo test faults image chaos forever lint bench clean-peers

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## Install what building needs, where it is missing: a C and a C++ compiler, pkg-config, OpenSSL (apt)
	@missing=; \
	command -v cargo >/dev/null || { echo "deps: there is no Rust here: https://rustup.rs"; exit 1; }; \
	command -v cc >/dev/null || missing="$$missing gcc"; \
	command -v c++ >/dev/null || missing="$$missing g++"; \
	command -v pkg-config >/dev/null || missing="$$missing pkg-config"; \
	pkg-config --exists openssl 2>/dev/null || missing="$$missing libssl-dev"; \
	[ -n "$$missing" ] || exit 0; \
	command -v apt-get >/dev/null || { echo "deps: please install (Debian's names):$$missing"; exit 1; }; \
	echo "deps: installing$$missing with apt"; \
	as_root=; [ "$$(id -u)" = 0 ] || as_root=sudo; \
	$$as_root apt-get update -qq && $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y libc6-dev $$missing

peers: ## Fetch the real Home Assistant (2025.4 and 2026.11), InfluxDB, VictoriaMetrics, Prometheus and mosquitto for the tests into target/peers
	@tests/peers/install.sh

demo: deps ## Run everything with a simulated home: nothing to set up
	cargo run --release -- demo

test: deps peers ## Run all tests, those with the real peers too (the first time about 6 minutes)
	cargo test --workspace
	@$(MAKE) --no-print-directory faults
	@echo "test: all passed; what a missing peer kept from running is in the lines above that start with SKIPPED"

# Most of these tests wait for something: many at once cost no more than few.
faults: deps ## Kill it, fill its disk, break its database: nothing acknowledged may be lost (about 3 minutes)
	cargo test --test faults -- --test-threads=24

image: deps peers ## Build the image of the app and run it as the Supervisor would (as root; the first time about 6 minutes)
	tests/image/make.sh
	cargo test --test image

# All of them, also after a red one; the older Home Assistant and the newest take turns.
# `HA_INGESTOR_TEST_SEED=N cargo test --test it chaos::the -- --nocapture` repeats one (`chaos::with` with the newest).
SEEDS ?= 20
chaos: deps peers ## Break everything around it in SEEDS random orders (20, 3 minutes each): the databases must have what the recorder has
	cargo test --test it --no-run
	@red=; \
	for order in $$(seq $(SEEDS)); do \
		seed=$$(od -An -N4 -tu4 /dev/urandom | tr -d ' '); \
		home=$$([ $$((order % 2)) = 1 ] && echo the || echo with); \
		echo "chaos: order $$order of $(SEEDS), seed $$seed, chaos::$$home"; \
		HA_INGESTOR_TEST_SEED=$$seed cargo test -q --test it chaos::$$home -- --nocapture || red="$$red $$seed"; \
	done; \
	[ -z "$$red" ] || { echo "chaos: red with the seeds$$red"; exit 1; }; \
	echo "chaos: all $(SEEDS) orders passed"

# `HA_INGESTOR_TEST_SEED="N" cargo test --test faults the_seeds -- --nocapture` repeats one.
STORIES ?= 200
forever: deps ## Break things for good in STORIES random ways (200, about 10 minutes): whatever can go on must
	HA_INGESTOR_TEST_SEED="$$(od -An -v -N$$((4 * $(STORIES))) -tu4 /dev/urandom | tr -s ' \n' ' ')" \
		cargo test --test faults the_seeds -- --nocapture

lint: deps ## Formatting, clippy, the documentation, and linters for scripts, Dockerfile and YAML, warnings denied
	cargo fmt --check
	cargo clippy --workspace --all-targets --test faults --test image -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	tests/lint.sh

bench: deps ## Measure: the stages of an event, the whole program, MQTT, an outage, the past, and Home Assistant's own converter (about 25 minutes)
	cargo bench --bench stages
	cargo bench --bench end_to_end
	cargo bench --bench mqtt
	cargo bench --bench outage
	cargo bench --bench spool
	cargo bench --bench history
	@python=target/peers/home-assistant/bin/python; \
	if [ -x $$python ]; then $$python benches/converter.py; \
	else echo "SKIPPED: Home Assistant's own converter is not measured because $$python is not there (make peers)"; fi

clean-peers: ## Remove the real peers
	rm -rf target/peers
