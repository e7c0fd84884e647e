# `make demo` shows a forecast, `make test` proves the project; both set up and build what they need.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build demo test mutants test-timescale check golden cuda fuzz storm frames bench up down psql uri install

# One profile and one selection of features for everything, so that each dependency is compiled once.
cargo = . tools/env.sh && require_postgres && cargo $(1) --profile release --locked $(or $(2),--workspace) --features "kronos/pg$$pg_version"

help: ## lists the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

setup: ## installs what is missing (PostgreSQL with headers, libclang); needs cargo
	@tools/setup

build: setup ## builds everything
	@$(call cargo,build)

demo: setup ## prints a forecast; BARS=file.csv[.gz] takes your own bars
	@$(call cargo,build,--package kronos)
	@tools/demo $(if $(BARS),"$(BARS)")

test: build ## unit, golden and integration tests; CLOCK='2028-02-29 12:00' at another time, TZ=America/New_York elsewhere
	@export KRONOS_TEST_CLOCK="$(CLOCK)" && tools/test

mutants: build ## puts small faults into a copy and sees that a test notices each; ONLY=text chooses, RESUME=1 goes on
	@target/release/kronos-mutants $(if $(RESUME),--resume) $(if $(ONLY),"$(ONLY)")

test-timescale: setup ## the tests on PostgreSQL 17 with TimescaleDB, in a Debian 13 root made below target/
	@tools/test-timescale

check: setup ## formatting, lints, and the arrows between the crates
	@tools/check

golden: setup ## parity with the published model, on every set found; KRONOS_GOLDEN=folder adds one
	@tools/golden

cuda: build ## builds the extension with CUDA into target/cuda, and proves that it serves where there is no driver
	@tools/cuda && tools/cuda-without-driver

fuzz: setup ## 100,000 damaged model files, and as many damaged messages and frames of feeds
	@export PROPTEST_CASES=100000 && $(call cargo,test) --test artifact_fuzz --test protocol_fuzz --test hostile_frames

storm: build ## a minute of 32 connections cancelled, terminated and timed out at random, on a cluster of its own
	@export KRONOS_STORM_SECONDS=60 && $(call cargo,test) --test service of_many_leak_nothing -- --nocapture

frames: setup ## recorded frames of venues decode to the expected trades; KRONOS_FRAMES=folder takes others
	@export KRONOS_FRAMES=$(if $(KRONOS_FRAMES),"$(abspath $(KRONOS_FRAMES))") && $(call cargo,test) --test frames

bench: build ## time per forecast, decode step and allocation, rows per second into market.trades beside \copy, 10 million forecasts
	@$(call cargo,bench) --bench kronos --bench layers --bench chronos2 --bench allocation
	@export KRONOS_BENCH=1 && $(call cargo,test) --test service --test allocation --test evaluation --test ledger -- \
		--nocapture throughput sql_costs windows_per_second latest_forecasts_of_ten
	@tools/cluster up bench-cluster && export KRONOS_DATABASE_URL="$$(tools/cluster uri bench-cluster)" && \
		$(call cargo,bench) --bench throughput; status=$$?; tools/cluster down bench-cluster; exit $$status

up: build ## starts a private cluster with everything installed
	@tools/cluster up && echo "psql '$$(tools/cluster uri)'"

down: ## stops the private cluster
	@tools/cluster down

psql: up ## opens psql in the private cluster
	@tools/cluster psql

uri: ## prints the connection URI of the private cluster
	@tools/cluster uri

install: build ## installs into the server of PG_CONFIG (needs permission)
	@tools/install && echo "Put shared_preload_libraries = 'kronos' into postgresql.conf, restart, and run CREATE EXTENSION kronos."
