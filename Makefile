# SPDX-License-Identifier: GPL-2.0
#
# kcare for one stock Debian kernel, KERNEL=REL (default: scripts/kernel default).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := all
MAKEFLAGS += --no-print-directory

KERNEL ?= $(shell scripts/kernel default)
# The certificates that payloads are checked against, in PEM or DER; without one, a development key is made.
KCARE_CERT ?=
# The vendor's 1.root.json, for `make install`.
KCARE_ROOT ?=
# For `make fuzz`: seconds for all targets together.
FUZZ_SECONDS ?= 600
export DESTDIR PREFIX
CARGO ?= cargo
JOBS ?= $(shell nproc)

target := $(CURDIR)/target
kernels := $(target)/kernels
kmod = $(target)/kmod/$(KERNEL)
in_root = scripts/kernel exec $(KERNEL) --
kbuild = $(in_root) make -s -C $(kernels)/$(KERNEL)/build M=$(CURDIR) MO=$(kmod) -j$(JOBS) \
	KCARE_CERT_DER=$(kmod)/kcare-cert.der
# The release of our own with the same source, and what runs on it.
debug_kernel = $(KERNEL:%-cloud-amd64=%-debug-amd64)
# Without callbacks-module, whose tun wants all of INET, which that kernel leaves out.
debug_tests := basic blocked bpf callbacks faults insmod levels modules redirect shadow soak state stragglers stress
.PHONY: all release help kernel keys kmod user docs install uninstall test lint cargo-test fuzz kinds-test account-test vm-test ibt-test test-all soak \
	debug-kernel test-debug bench differential demo fmt fmt-kmod clean

all: kmod user ## Build the module and the programs

release: ## As all, for a vendor: KCARE_CERT=FILE is needed, and no development key may be in it
	@scripts/keys --release $(KCARE_CERT)
	@$(MAKE) all

help: ## List the targets
	@echo 'Targets (KERNEL=REL selects a kernel of `scripts/kernel list`; now $(KERNEL)):'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

kernel: ## Fetch and prepare the kernel
	@scripts/kernel prepare $(KERNEL)

keys: ## Make the development key pair
	@scripts/keys

kmod: kernel keys ## Build kcare.ko against the kernel
	@mkdir -p $(kmod)
	@scripts/keys --der $(kmod)/kcare-cert.der $(or $(KCARE_CERT),$(target)/keys/kcare-dev.cert.pem)
	@$(kbuild) $(if $(CLIPPY),CLIPPY=$(CLIPPY)) modules

# For packages, below /usr/share: man pages, completions of the shells.
docs: ## Write man pages and completions to target/share
	@$(CARGO) run --release --locked --quiet -p kcare --example docs -- $(target)/share

install: docs ## Install the agent, its services and kcare.ko (DESTDIR=, PREFIX=/usr, KCARE_ROOT=1.root.json)
	@KCARE_ROOT=$(KCARE_ROOT) scripts/install

uninstall: ## Take all of that away, with settings, state and cache
	@scripts/install --uninstall

user: ## Build kcarectl, kcare-push and kcare-build
	@$(CARGO) build --release --locked --quiet

test: all ## Run all checks, on a fresh machine too; ends with N passed, N failed
	@scripts/test $(KERNEL)

lint: kernel keys ## Only formatting, clippy and shellcheck
	@scripts/test $(KERNEL) lint

cargo-test: all ## Only the unit and property tests
	@scripts/test $(KERNEL) cargo

fuzz: ## Fuzz payloads and signatures for FUZZ_SECONDS (600); crashes and what was found stay in target/fuzz
	@tests/fuzz --seconds $(FUZZ_SECONDS)

kinds-test: all ## Only the patches for each kind of change
	@scripts/test $(KERNEL) kinds

account-test: all ## Only changes at random places of the source, each looked for in what is built
	@scripts/test $(KERNEL) account

vm-test: all ## Only the selftests in a virtual machine
	@scripts/test $(KERNEL) vm

test-all: all ## What `test` does, and what takes hours: all random changes, the whole corpus, differential, IBT, soak
	@scripts/test $(KERNEL) lint cargo fuzz fuzz-planted kinds-all account-all corpus corpus-all tuf server vm \
		ibt differential soak power

ibt-test: all ## Only selftests on a CPU with Indirect Branch Tracking, under Bochs
	@scripts/test $(KERNEL) ibt

soak: all ## Apply and unload 200 times under load (SOAK_CYCLES), and do 4 x 500 operations at random (STRESS_OPERATIONS)
	@scripts/test $(KERNEL) soak

debug-kernel: ## Build a kernel from the same source with the kernel's own checkers
	@scripts/kernel prepare $(debug_kernel)

test-debug: debug-kernel ## The selftests of the operations in that kernel, which must stay silent
	@$(MAKE) all KERNEL=$(debug_kernel)
	@SOAK_CYCLES=$${SOAK_CYCLES:-20} STRESS_OPERATIONS=$${STRESS_OPERATIONS:-40} tests/run --kernel $(debug_kernel) $(debug_tests)

bench: all ## Measure builds, and in a virtual machine, as ratios within one run
	@tests/bench/run --kernel $(KERNEL)

differential: user kernel ## Compare kcare-build with the kernel's `objtool klp diff` (NEWER=REL)
	@tests/differential $(KERNEL) $(NEWER)

demo: ## Watch a real fix go live in a stock kernel and come back out
	@scripts/demo $(KERNEL)

fmt: fmt-kmod ## Format all Rust sources
	@$(CARGO) fmt --all
	@$(CARGO) fmt --manifest-path userland/payload/fuzz/Cargo.toml

# Under the kernel's own settings; FMT=--check only looks.
fmt-kmod: kernel
	@$(in_root) sh -c 'rustfmt --edition 2021 $(FMT) \
		--config-path $(kernels)/$(KERNEL)/source rust-kmod/*.rs rust-kmod/kapi/*.rs'

clean: ## Remove what was built, but neither kernels nor build roots
	rm -rf $(target)/kmod $(target)/release $(target)/debug $(target)/payloads $(target)/tests $(target)/bench \
		$(target)/differential $(target)/account $(target)/fuzz
