# Railhead: `make demo` shows it, `make test` tests it. Everything they need they install, saying so.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test lab-slow lint generate bench scale faults soak fuzz lab lab-down images check-machine

RUN := cargo run --locked --package railhead-e2e --bin
# Built first: cargo becomes the program that it runs, and the compiler's memory would count as that of the program's calls.
STANDIN := cargo build --locked --release --package railhead-standin && cargo run --locked --release --package railhead-standin --bin standin --

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: check-machine ## Bring up Kubernetes with two SR-IOV nodes, run a job over two rails, show what it got, clean up
	$(RUN) demo

test: check-machine ## Run all test tiers: unit, netns, control plane, lab
	$(RUN) tiers

lab-slow: check-machine ## Run the lab tests that take too long for every run: an API server silent for three minutes, kill -9 behind every step on real VFs, other drivers and tenants
	RAILHEAD_SLOW=1 cargo test --quiet --locked --package railhead-e2e --test lab

lint: ## rustfmt, clippy, dependency rules
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	$(RUN) tiers -- --only dependencies

generate: ## Write the chart's CRDs, the API reference and the page of reasons from the types
	cargo run --quiet --package railhead-crds --bin crdgen charts/railhead/crds docs/api.md docs/reasons.md

bench: check-machine ## Print sizes and times, on this machine and in the lab, beside the same work alone; fails above a limit
	$(RUN) bench

scale: check-machine ## The operator beside a real API server with 5,000 simulated nodes and 16,384 pods, each figure beside its limit; half an hour (SCALE="--nodes 200 --pods 400 --networks 50" for a smaller one)
	cargo run --locked --release --package railhead-e2e --bin scale -- $(SCALE)

faults: check-machine ## kill -9 behind every change of Prepare, ADD, DEL and Unprepare, then each way on from there, on this machine; takes no lab
	$(STANDIN) faults

soak: check-machine ## 10,000 ADDs and DELs, 32 at once, with random kills; 100,000 changes of the control plane under two leaders that are cut off and killed (OPERATIONS, SEED)
	$(STANDIN) soak
	$(RUN) soak -- --operations $(or $(OPERATIONS),100000) $(if $(SEED),--seed $(SEED))

fuzz: ## Fuzz whatever Railhead reads that others wrote, ten minutes per kind (SECONDS_EACH=600; TARGETS for some of them)
	./fuzz/run

lab: check-machine ## Bring the lab up and leave it running, without Railhead; say how to use it and how to install Railhead there
	$(RUN) lab -- prepare
	$(RUN) lab -- images
	$(RUN) lab -- up

lab-down: check-machine ## Take the lab down; nothing stays
	$(RUN) lab -- down

images: check-machine ## Build the container images as OCI archives
	$(RUN) lab -- images

check-machine:
	@./scripts/check-machine
