# qnet's build, tests and demo. Everything that changes a network runs in
# namespaces of its own.
# Under sudo the PATH often lacks it.
GO      ?= $(or $(shell command -v go),/usr/local/go/bin/go)
CACHE   := $(CURDIR)/.cache
LINT    := $(CACHE)/bin/golangci-lint
LINT_VERSION := v2.15.0
FUZZTIME ?= 1m
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -buildid= -X github.com/qnet-vm/qnet/cli.version=$(VERSION)

.PHONY: build guest networkmanager resolved demo test stress lan coexist bench bench-go fuzz lint check clean

build: ## bin/qnet, static and the same from every directory
	CGO_ENABLED=0 $(GO) build -tags urfave_cli_no_docs -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/qnet .

guest: ## the kernel and initramfs that the demo, the examples and the tests boot
	$(GO) run ./internal/lab/guest/mkguest -dir $(CACHE)/guest

networkmanager: ## NetworkManager for the tests, unpacked and not installed
	@[ -e $(CACHE)/networkmanager/usr ] || { mkdir -p $(CACHE)/networkmanager && cd $(CACHE)/networkmanager && \
		apt-get download -q network-manager libnm0 libndp0 libteamdctl0 libmm-glib0 libjansson4 && \
		for p in *.deb; do dpkg -x $$p .; done; rm -f *.deb; } || true

resolved: ## systemd-resolved for a test, unpacked and not installed
	@[ -e $(CACHE)/resolved/lib ] || { mkdir -p $(CACHE)/resolved && cd $(CACHE)/resolved && \
		apt-get download -q systemd-resolved libsystemd-shared && for p in *.deb; do dpkg -x $$p .; done; rm -f *.deb; } || true

demo: ## a VM behind NAT, in namespaces of its own
	sh internal/lab/demo/install.sh
	$(MAKE) --no-print-directory build guest
	sh internal/lab/demo/demo.sh

test: guest networkmanager resolved ## everything; needs root for what concerns networks
	$(GO) test -race -timeout 30m ./...

stress: guest ## the whole of what `make test` tries a part of: some 20 minutes
	@{ QNET_STRESS=1 $(GO) test -p 1 -count=1 -timeout 2h -v \
		-run 'CrashMatrix|ManyRuns|Cycles|TwoHundred|FullBridge|PulledCable' ./cli ./netsetup/keeper; echo $$? > $(CACHE)/stress.status; } | \
		grep --line-buffered '| \|^ok\|FAIL'; exit $$(cat $(CACHE)/stress.status)

lan: ## the whole of what `make test` tries a part of on the host's own NIC: some 15 minutes
	@{ QNET_STRESS=1 $(GO) test -p 1 -count=1 -timeout 1h -v \
		-run 'RandomSets|HundredMoves|DeadGateway|KilledInTheMiddle' ./netsetup ./netsetup/keeper; echo $$? > $(CACHE)/lan.status; } | \
		grep --line-buffered '| \|^ok\|FAIL'; exit $$(cat $(CACHE)/lan.status)

# Needs docker.io ufw firewalld libvirt-daemon-system libvirt-clients, none of which need run.
coexist: ## every mode beside Docker, ufw, firewalld and others, in every order: docs/coexistence.md
	QNET_COEXIST=1 $(GO) test -count=1 -timeout 60m -v -run 'TestCoexist$$' ./internal/lab/programs
	QNET_COEXIST=1 $(GO) test -count=1 -run 'FollowVPN|KillSwitch|SubnetsBesideLibvirt' ./netsetup/keeper

bench: build guest ## qnet beside the shell recipe, libvirt, dnsmasq, passt: make bench GROUPS="launch dns"
	@mkdir -p $(CACHE)/bench
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(CACHE)/bench/wire ./internal/bench/wire
	@$(GO) build -o $(CACHE)/bench/bench ./internal/bench
	@$(CACHE)/bench/bench -cache $(CACHE) -qnet bin/qnet $(GROUPS)

bench-go: ## the benchmarks of Go code
	$(GO) test -run '^$$' -bench . -benchmem ./...

fuzz: ## each fuzz target for a while
	$(GO) test -run '^$$' -fuzz FuzzDecode -fuzztime $(FUZZTIME) ./profiles
	$(GO) test -run '^$$' -fuzz FuzzHandle -fuzztime $(FUZZTIME) ./netsetup/dhcp
	$(GO) test -run '^$$' -fuzz FuzzAnswer -fuzztime $(FUZZTIME) ./netsetup/dns
	$(GO) test -run '^$$' -fuzz FuzzParse -fuzztime $(FUZZTIME) ./netsetup/watch

$(LINT):
	GOBIN=$(CACHE)/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)

lint: $(LINT)
	$(LINT) run ./...

check: lint test ## what CI runs

clean:
	rm -rf bin $(CACHE)
