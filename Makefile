SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo demo-human test chaos test-model test-matrix test-containers images bench bench-check bench-peers fuzz lint build clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' Makefile

# Make hands DOCS, OUT and PORT on in the environment, so names with spaces work.
demo: ## Workers, a coordinator and a Redis on this machine, documents through them [DOCS=folder] [OUT=folder] [PORT=n]
	@deploy/scripts/demo.sh

demo-human: ## A run asks for approval, all workers are killed, the approval comes from redis-cli [PORT=n]
	@deploy/scripts/demo-human.sh

test: ## All tests but the long ones [STEPFLEET_TEST_REDIS=process|docker|auto]
	@deploy/scripts/test.sh

chaos: ## A fleet under load while everything fails at random, for a minute [MINUTES=n] [STEPFLEET_CHAOS_SEED=n]
	@deploy/scripts/test.sh chaos

test-model: ## The kernel against the memory store, on 100,000 random schedules (many minutes)
	@deploy/scripts/test.sh model

test-matrix: ## The integration tests against Redis 7.0 and 8, Valkey 8 and 9, with Sentinel and Cluster (needs Docker)
	@deploy/scripts/test.sh matrix

test-containers: ## The images compiled from source, those of `stepfleet new` too, and a fleet of them (needs Docker, many minutes)
	@deploy/scripts/test.sh containers

images: ## stepfleet/coordinator and stepfleet/demo-worker for Docker, compiled in a container
	@deploy/scripts/images.sh

bench: ## What a step costs, as ratios to the least that Redis could take (about five minutes) [ARGS="--only chain-off"]
	@deploy/scripts/bench.sh $(ARGS)

bench-check: ## The same, beside the ratios that docs/performance.md keeps: fails where one is over 20 % worse [ARGS=..]
	@deploy/scripts/bench.sh --check docs/performance.md $(ARGS)

bench-peers: ## BullMQ and apalis-workflow on the same shapes, in the same go (needs npm) [ARGS=..]
	@deploy/scripts/bench-peers.sh $(ARGS)

fuzz: ## All decoders under a coverage-led fuzzer, where cargo-fuzz is installed [SECONDS_EACH=n]
	@deploy/scripts/fuzz.sh

lint: ## Formatting, clippy, documentation, licences and dependencies
	@deploy/scripts/lint.sh

build: ## Everything, as released
	@deploy/scripts/build.sh

clean: ## Remove what was built
	@deploy/scripts/build.sh clean
