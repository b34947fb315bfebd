# Builds, tests and demonstrates qnet. What changes a network runs in network
# namespaces of its own, so every target is safe on any machine.

# sudo's PATH often lacks Go.
GO      ?= $(or $(shell command -v go),/usr/local/go/bin/go)
MODULE  := github.com/qnet-vm/qnet
CACHE   := $(CURDIR)/.cache
INSTALL := sh internal/lab/packages/install.sh
UNPACK  := sh internal/lab/packages/unpack.sh
# make test PKG=./cli TESTFLAGS='-run Bridge -v'
PKG     ?= ./...
TESTFLAGS ?=
FUZZTIME ?= 1m
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS = -s -w -buildid= -funcalign=1 -X $(MODULE)/cli.version=$(VERSION)
# A static binary of at most 15 MiB, the same from every directory: without documents of the
# library for commands, without HTTP/2, which one large file has no use for, and without
# inlining, which buys a program that waits for the kernel and for QEMU nothing. Go's runtime
# keeps it: each process that a launch starts spends its first milliseconds there.
NOINLINE := -gcflags=all=-l $(foreach package,runtime runtime/... internal/... sync/... syscall,-gcflags=$(package)=)
BUILD   = CGO_ENABLED=0 $(GO) build -tags urfave_cli_no_docs,nethttpomithttp2 -trimpath -buildvcs=false $(NOINLINE) -ldflags '$(LDFLAGS)'
# Tests with a host of their own run side by side. They wait most of the time.
BESIDE  := -parallel $$(( $$(nproc) + 1 ))
# The race detector needs cgo.
RACE    := $$(command -v gcc > /dev/null && echo -race)
# The last commit whose keeper speaks the protocol without a version.
OLD     := 4927c03

LINT        := $(CACHE)/bin/golangci-lint-v2.15.0
STATICCHECK := $(CACHE)/bin/staticcheck-v0.8.2
DEADCODE    := $(CACHE)/bin/deadcode-v0.52.0
# v2.43.0 is the last nfpm whose dependencies the Go proxy has all of.
NFPM        := $(CACHE)/bin/nfpm-v2.43.0
SBOM        := $(CACHE)/bin/cyclonedx-gomod-v1.9.0
# Of packages: a release's tag, or else what comes before the next release.
RELEASE     ?= $(or $(shell git describe --tags --exact-match 2>/dev/null),v0.1.0-dev+$(shell git rev-parse --short=9 HEAD 2>/dev/null))

.PHONY: build demo packages try-packages release test test-unit cover stress lan coexist bench bench-go fuzz installer catalog-online lint help check clean \
	fixtures guest debian whole networkmanager resolved secureboot old installer-files

build: ## bin/qnet
	$(BUILD) -o bin/qnet .

demo: ## a VM behind NAT, with a stand-in for the Internet; needs root
	@$(INSTALL) --must guest demo
	$(MAKE) --no-print-directory build guest
	sh internal/lab/demo/demo.sh

# As root, it installs the packages that it lacks. Without root, the tests run in
# user namespaces, and skip what needs more.
test: fixtures ## all tests: some 15 minutes
	$(GO) test $(RACE) $(BESIDE) -timeout 60m $(TESTFLAGS) $(PKG)

test-unit: ## the tests that need no root, no QEMU and no taps: less than a minute
	$(GO) test -short $(TESTFLAGS) $(PKG)

cover: fixtures ## coverage by all tests and by the processes they start; TESTFLAGS=-short: by those of test-unit
	@rm -rf $(CACHE)/cover && mkdir -p $(CACHE)/cover && chmod 1777 $(CACHE)/cover
	$(GO) test -count=1 -covermode=atomic -coverpkg=./... -timeout 60m -ldflags '-X $(MODULE)/internal/lab.coverDir=$(CACHE)/cover' \
		$(TESTFLAGS) $(PKG) -args -test.gocoverdir=$(CACHE)/cover > $(CACHE)/cover.log 2>&1; echo $$? > $(CACHE)/cover.status
	@$(GO) tool covdata textfmt -i=$(CACHE)/cover -o=$(CACHE)/cover.txt
	@$(GO) tool cover -html=$(CACHE)/cover.txt -o $(CACHE)/cover.html
	@$(GO) tool covdata percent -i=$(CACHE)/cover | sort
	@$(GO) tool cover -func=$(CACHE)/cover.txt | tail -n 1
	@grep FAIL $(CACHE)/cover.log; exit $$(cat $(CACHE)/cover.status)

stress: fixtures ## the whole of what `make test` tries a part of: some 20 minutes
	@{ QNET_STRESS=1 $(GO) test -p 1 -parallel 1 -count=1 -timeout 2h -v \
		-run 'CrashMatrix|ManyRuns|Cycles|TwoHundred|FullBridge|PulledCable' ./cli ./netsetup/...; echo $$? > $(CACHE)/stress.status; } | \
		grep --line-buffered '| \|^ok\|FAIL'; exit $$(cat $(CACHE)/stress.status)

lan: fixtures ## the whole of what `make test` tries a part of on the host's own NIC: some 15 minutes
	@{ QNET_STRESS=1 $(GO) test -p 1 -parallel 1 -count=1 -timeout 1h -v \
		-run 'RandomSets|HundredMoves|DeadGateway|KilledInTheMiddle' ./netsetup/...; echo $$? > $(CACHE)/lan.status; } | \
		grep --line-buffered '| \|^ok\|FAIL'; exit $$(cat $(CACHE)/lan.status)

coexist: fixtures packages-coexist ## every mode beside Docker, ufw, firewalld and others, in every order: docs/coexistence.md
	QNET_COEXIST=1 $(GO) test -count=1 -timeout 60m -v -run 'TestCoexist$$' ./internal/lab/programs
	QNET_COEXIST=1 $(GO) test -count=1 -run 'FollowVPN|KillSwitch|SubnetsBesideLibvirt' ./netsetup/...

bench: packages-coexist packages-bench fixtures whole build ## qnet beside the shell recipe, libvirt, dnsmasq, passt; GROUPS="launch dns" for some; BEFORE=FILE GROUPS=before beside an earlier build
	@mkdir -p $(CACHE)/bench
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(CACHE)/bench/wire ./internal/bench/wire
	@$(GO) build -o $(CACHE)/bench/bench ./internal/bench
	@$(CACHE)/bench/bench -cache $(CACHE) -qnet bin/qnet -before '$(BEFORE)' $(GROUPS)

bench-go: ## the benchmarks of Go code
	$(GO) test -run '^$$' -bench . -benchmem ./...

# go test fuzzes one target at a time.
fuzz: ## each fuzz target for FUZZTIME
	@grep -roH --include=*_test.go --exclude-dir=.cache '^func Fuzz[A-Za-z]*' . | sed 's|/[^/]*:func | |' | while read -r dir target; do \
		$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$dir" || exit 1; done

installer: fixtures installer-files ## Debian's installer up to its first menu, from its kernel, by PXE and from a CD, on the console and on a screen: 130 MB and some minutes
	QNET_INSTALLER=1 $(GO) test -count=1 -timeout 30m -v -run 'TestInstaller$$' ./cli

catalog-online: ## ask the Internet whether the catalog's images are where it says
	QNET_ONLINE=1 $(GO) test -count=1 -timeout 30m -v -run 'TestCatalogOnline$$' ./internal/images

packages: VERSION = $(RELEASE)
packages: build $(NFPM) $(SBOM) ## dist: .deb, .rpm and .tar.gz for amd64 and arm64, bills of materials, checksums
	@rm -rf dist
	@set -e; for arch in amd64 arm64; do \
		GOOS=linux GOARCH=$$arch $(BUILD) -o dist/$$arch/qnet .; \
		sh internal/packaging/build.sh dist $(RELEASE) $$arch dist/$$arch/qnet $(NFPM) $(SBOM); rm -r dist/$$arch; done
	@cd dist && sha256sum * > SHA256SUMS && cat SHA256SUMS

# The second build is that of another directory.
try-packages: packages-guest guest packages ## install, upgrade, remove and run the packages in a fresh Debian; build them twice, and compare
	sh internal/packaging/try.sh dist $(CACHE)
	sh internal/packaging/goinstall.sh $(GO)
	@rm -rf $(CACHE)/again && git clone -q . $(CACHE)/again && mkdir -p $(CACHE)/again/.cache && ln -s $(CACHE)/bin $(CACHE)/again/.cache/bin && \
		$(MAKE) --no-print-directory -C $(CACHE)/again packages RELEASE=$(RELEASE) > /dev/null && \
		diff dist/SHA256SUMS $(CACHE)/again/dist/SHA256SUMS && echo "both builds are the same" && rm -rf $(CACHE)/again

release: ## dist of a tagged commit, if it has no changes and passes all checks
	@sh internal/packaging/release.sh $(RELEASE)
	$(MAKE) check try-packages
	@echo "publish what is in dist; RELEASING.md has the rest"

lint: $(LINT) $(STATICCHECK) $(DEADCODE) ## golangci-lint, staticcheck, deadcode
	$(LINT) run ./...
	$(STATICCHECK) -checks all ./...
	@dead=$$($(DEADCODE) -test ./...) && { [ -z "$$dead" ] || { echo "$$dead"; false; }; }

help: ## the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

check: lint test ## what CI runs

clean: ## removes what make made
	rm -rf bin $(CACHE)

# What the targets above need.

packages-%: ; @$(INSTALL) $*

fixtures: # what tests use, and skip where it cannot be had
	@$(INSTALL) guest demo test
	@$(MAKE) --no-print-directory guest || echo "tests skip what boots the guest" >&2
	@$(MAKE) --no-print-directory debian || echo "tests skip what boots Debian" >&2
	@$(MAKE) --no-print-directory networkmanager resolved secureboot old

guest: packages-guest # the kernel and initramfs that the demo, the examples and the tests boot
	@$(GO) run ./internal/lab/guest/mkguest -dir $(CACHE)/guest

debian: packages-debian # a Debian 12 with cloud-init, for tests of the first boot; root, two minutes once
	@sh internal/lab/guest/debian.sh $(CACHE)/debian

whole: packages-guest # a kernel that has 9p, which Debian's for clouds has not, for the rows of shared folders
	@$(GO) run ./internal/lab/guest/mkguest -whole -dir $(CACHE)/whole || echo "the rows beside 9p are left out" >&2

networkmanager resolved secureboot installer-files: # programs for the tests, unpacked and not installed
	@$(UNPACK) $(@:-files=) $(CACHE)/$(@:-files=)

old: # an old qnet, for the test of an upgrade while VMs run
	@[ -e $(CACHE)/old/qnet ] || { rm -rf $(CACHE)/old && mkdir -p $(CACHE)/old/src && \
		git archive $(OLD) | tar -x -C $(CACHE)/old/src && cd $(CACHE)/old/src && $(BUILD) -o ../qnet . && rm -rf $(CACHE)/old/src; } || \
		{ rm -rf $(CACHE)/old; echo "cannot build commit $(OLD); the test of an upgrade is skipped" >&2; }

# tool installs a program of the version that its file name ends with.
tool = GOBIN=$(CACHE)/bin $(GO) install $(1)@$(lastword $(subst -, ,$@)) && mv $(CACHE)/bin/$(notdir $(1)) $@

$(LINT):
	$(call tool,github.com/golangci/golangci-lint/v2/cmd/golangci-lint)

$(STATICCHECK):
	$(call tool,honnef.co/go/tools/cmd/staticcheck)

$(NFPM):
	$(call tool,github.com/goreleaser/nfpm/v2/cmd/nfpm)

$(SBOM):
	GOFLAGS=-trimpath $(call tool,github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod)

$(DEADCODE):
	$(call tool,golang.org/x/tools/cmd/deadcode)
