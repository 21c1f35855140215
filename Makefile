# Sallyport. `make help` lists the targets.

GO      ?= go
BIN     := bin
PKGS    ?= ./...
export GOFLAGS ?= -mod=readonly
export CGO_ENABLED ?= 0
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := build
.PHONY: help build runtime strong setup setup-run demo test race check lint fuzz bench shots cosign toolkits clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

build: runtime $(BIN)/sallyport ## Build bin/sallyport and obtain the pinned OCI runtime

$(BIN)/sallyport: $(shell find . -name '*.go' -not -path './bin/*') $(shell find internal examples -type f -not -name '*.go') go.mod go.sum
	@mkdir -p $(BIN)
	@echo 'compiling Sallyport (some minutes the first time)' >&2
	$(GO) build -trimpath -ldflags '-s -w' -o $@ ./cmd/sallyport

runtime: ## Build the pinned OCI runtime (runc) into bin/
	@scripts/runtime.sh

strong: ## Build the pinned gVisor (runsc) into bin/, for the level strong
	@scripts/strong.sh

setup: ## Install what a fresh Debian or Ubuntu machine lacks
	@scripts/setup.sh

setup-run:
	@SALLYPORT_SETUP=run scripts/setup.sh

demo: setup-run build ## Show the main job from push to proof (ONCE=1: exit at the end)
	@data=$${DATA:-$$(mktemp -d "$${TMPDIR:-/tmp}/sallyport-demo.XXXXXX")}; \
	$(BIN)/sallyport demo --data "$$data" $(if $(ONCE),--once)

test: setup build strong cosign toolkits ## Pass all tests, set-up included
	SALLYPORT_TEST_COSIGN=$(CURDIR)/$(BIN)/cosign $(GO) test -timeout 25m $(PKGS)

race: setup build strong cosign toolkits ## Pass all tests with the race detector
	CGO_ENABLED=1 SALLYPORT_TEST_COSIGN=$(CURDIR)/$(BIN)/cosign $(GO) test -race -timeout 50m $(PKGS)

cosign: ## Build the pinned cosign that the conformance tests use into bin/
	@scripts/cosign.sh

toolkits: ## Install the npm packages that the tests drive our services with
	@scripts/toolkits.sh >/dev/null

check: lint ## lint, and govulncheck where its database can be reached
	@scripts/vuln.sh

lint: ## Formatting, vet, staticcheck, layers
	@test -z "$$(gofmt -l . | tee -a /dev/stderr)" || { echo 'run gofmt -w on these files'; exit 1; }
	$(GO) vet $(PKGS)
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 $(PKGS)
	$(GO) test -run TestLayers .

FUZZTIME ?= 30s
fuzz: ## Fuzz every parser of foreign bytes for FUZZTIME each
	@scripts/fuzz.sh $(FUZZTIME)

bench: build ## Measure; figures are ratios against a peer or a floor of the same run
	@scripts/bench.sh

shots: ## Take screenshots of the pages into docs/img
	@scripts/shots.sh

clean: ## Remove what was built
	rm -rf $(BIN)
