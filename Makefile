# What CI runs, step by step, for a working tree. `make` alone explains itself.
GO ?= go
BENCH ?= .
BENCHTIME ?= 1x

.DEFAULT_GOAL := help
.PHONY: help build test race lint generate check fuzz bench record ci

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## bin/rekey
	$(GO) build -o bin/rekey ./cmd/rekey

test: ## every test; needs only Go, says what it skips (REKEY_REQUIRE_SERVERS=1: fails instead)
	$(GO) test ./...

race: ## the tests under the race detector, without the packages that link the Temporal server
	bash .ci/race

lint: ## gofmt, go vet, golangci-lint and workflowcheck (installed into bin/)
	bash .ci/lint

generate: ## write the generated pages again
	$(GO) generate ./...

check: ## what a change needs before it is sent: generated files, linters, tests
	bash .ci/generated
	bash .ci/lint
	$(GO) test ./...

fuzz: ## every fuzz target for FUZZTIME (10s)
	bash .ci/fuzz

bench: ## Go benchmarks with allocations (BENCH=regexp BENCHTIME=2s)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem ./...

record: ## histories of a release for the replay tests (VERSION=v0.1.0)
	python3 .ci/record $(VERSION)

ci: ## the whole gate, as CI runs it
	bash .ci/run
