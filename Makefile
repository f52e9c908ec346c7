GO ?= go
# Without a tag it is the newest one of CHANGELOG.md, released or not.
VERSION ?= $(or $(patsubst v%,%,$(shell git describe --tags --dirty 2>/dev/null)),$(shell sed -n 's/^## \([0-9][^ ]*\).*/\1/p' CHANGELOG.md | head -n 1))

# Where ip and iptables are, also for a user whose PATH lacks it.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

# dockerd 29 and the nft that it runs. Without real root docker's tests are skipped.
engine := $(if $(filter 0,$(shell id -u)),build/dockerd build/nft)
# A Debian with a systemd and a docker of its own, into which the packages are installed.
debian := $(if $(filter 0,$(shell id -u)),build/debian)
cni := build/cni/cnitool build/cni/flannel

# For each fuzzer, of which two run at a time.
FUZZTIME ?= 10s

.DEFAULT_GOAL := help
.PHONY: help build test bigendian fuzz cover man lint chaos engines bench bench-lab bench-record demo deps dist clean

help: ## list what can be made
	@echo 'flanneld $(VERSION)'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## flanneld, into build/
	CGO_ENABLED=0 $(GO) build -tags grpcnotrace -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o build/flanneld ./cmd/flanneld

test: deps-test build/etcd build/etcd-newest build/etcdctl build/flannel build/govulncheck build/nfpm build/release $(engine) $(debian) $(cni) ## every test, with a real etcd and the real kernel, in namespaces; then `make fuzz`
	$(GO) test -race -timeout 75m ./internal/e2e ./... # in this order: it takes longest, and mostly waits
	$(GO) test -C tools/release -race ./...
	GO=$(GO) scripts/fuzz.sh $(FUZZTIME)

bigendian: deps-bigendian ## tests of messages and packets, by an emulated s390x, whose byte order is the other one
	GO=$(GO) scripts/bigendian.sh

fuzz: ## each fuzzer for a while; FUZZTIME=10s NAME=FuzzClip
	GO=$(GO) scripts/fuzz.sh $(FUZZTIME) $(NAME)

cover: deps-test build/etcd build/etcd-newest build/etcdctl $(engine) $(cni) ## which statements of pkg/ its tests run; build/cover.out is for `go tool cover -html`
	$(GO) test -race -timeout 20m -coverpkg=./pkg/... -coverprofile=build/cover.out ./pkg/...
	@$(GO) tool cover -func build/cover.out | tail -n 1

man: ## the manual page and docs/cli.md, after a change of flags or commands
	UPDATE=1 $(GO) test -count=1 -run 'TestManual$$|TestCLIPage$$' ./cmd/flanneld

lint: deps-lint build/staticcheck build/analyzers build/govulncheck ## gofmt, vet, staticcheck, more analyzers, known vulnerabilities, shellcheck, and the documents
	@files=$$(gofmt -l .); [ -z "$$files" ] || { echo "gofmt -w wanted: $$files" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) vet -C tools/release ./...
	for arch in arm s390x; do GOARCH=$$arch $(GO) vet ./... || exit; done # 32 bits, and the other byte order
	build/staticcheck ./...
	$(GO) vet -vettool=$(CURDIR)/build/analyzers ./...
	scripts/vuln.sh build/govulncheck
	shellcheck .ci/run $$(find . -name build -prune -o -name '*.sh' -print)
	$(GO) test ./internal/docs

chaos: deps-test build/etcd build/etcd-newest build/etcdctl ## faults without end on eight hosts; SECONDS=60 SEED=1 NEXTHOPS=0
	CHAOS_NEXTHOPS=$(NEXTHOPS) CHAOS_SECONDS=$(or $(SECONDS),60) CHAOS_SEED=$(or $(SEED),1) $(GO) test -race -count=1 -timeout 0 -v -run TestChaos ./internal/e2e

engines: deps-test build/etcd $(engine) ## two hosts with each dockerd, come up in every way; `make test` has half of them
	EVERY_BOOT=1 $(GO) test -race -count=1 -timeout 60m -v -run TestEngines ./internal/e2e

bench: ## the Go benchmarks of the parts
	$(GO) test -run '^$$' -bench . -benchmem -timeout 30m ./pkg/...

bench-lab: deps-bench build build/etcd build/flannel ## the whole daemon beside the kernel's own floor; CROWD=10000 hosts at one etcd
	FLANNELD_BINARY=$(CURDIR)/build/flanneld BENCH_CROWD=$(CROWD) BENCH_RECORD=$(RECORD) \
		$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 180m ./internal/bench

bench-record: ## measure BENCHMARKS.md anew, with up to 10,000 hosts at one etcd, and write its tables and its picture
	rm -f internal/bench/run.json
	$(MAKE) bench-lab CROWD=$(or $(CROWD),10000) RECORD=internal/bench/run.json
	UPDATE=1 $(GO) test -count=1 -run TestDocument ./internal/bench

demo: deps-demo build build/$(if $(filter 3,$(ETCD)),etcd-newest,etcd) ## a guided tour on three hosts; KEEP=1 leaves them running, ETCD=3 is on the newest etcd
	FLANNELD_BINARY=build/flanneld KEEP=$(KEEP) ETCD=$(ETCD) $(GO) run ./internal/lab/demo

deps: deps-all ## install what the others need, or say what to type
deps-%:
	@scripts/deps.sh $*

dist: build/nfpm build/release ## the release for each architecture, into dist/: tar.gz, deb, rpm and image; SIGNING_KEY=file signs it
	VERSION='$(VERSION)' SIGNING_KEY='$(SIGNING_KEY)' sh dist/build.sh

clean: ## remove everything that was made
	rm -rf build dist/flanneld-* dist/flanneld_* dist/SHA256SUMS*

# Tools have modules of their own, so that the daemon's go.mod stays short.
build/etcd: tools/go.mod tools/go.sum
	$(GO) build -C tools -o ../$@ go.etcd.io/etcd/server/v3

build/etcd-newest: tools/etcd-newest/go.mod tools/etcd-newest/go.sum
	$(GO) build -C tools/etcd-newest -o ../../$@ go.etcd.io/etcd/server/v3

# The last release that speaks both of etcd's APIs.
build/etcdctl: tools/etcdctl/go.mod tools/etcdctl/go.sum
	$(GO) build -C tools/etcdctl -o ../../$@ go.etcd.io/etcd/etcdctl/v3

build/dockerd: tools/dockerd/go.mod tools/dockerd/go.sum
	CGO_ENABLED=0 $(GO) build -C tools/dockerd -o ../../$@ github.com/moby/moby/v2/cmd/dockerd

build/nft: scripts/nft.sh
	scripts/nft.sh $@

# What bench-lab measures beside flanneld, and tests share a cluster with. Its udp backend is C.
build/flannel: tools/flannel/go.mod tools/flannel/go.sum
	$(GO) build -C tools/flannel -o ../../$@ github.com/flannel-io/flannel

# What CNI runtimes run: cnitool stands for containerd, CRI-O and the like.
build/cni/cnitool: tools/cni/go.mod tools/cni/go.sum
	CGO_ENABLED=0 $(GO) build -C tools/cni -ldflags '-s -w' -o ../../build/cni/ tool

# flannel's own plugin is in the last release that still had it.
build/cni/flannel: tools/cni-flannel/go.mod tools/cni-flannel/go.sum
	CGO_ENABLED=0 $(GO) build -C tools/cni-flannel -ldflags '-s -w' -o ../../build/cni/ tool

build/debian: scripts/debian.sh
	scripts/debian.sh $@

# The last release whose modules the public proxy has.
build/nfpm: tools/nfpm/go.mod tools/nfpm/go.sum
	CGO_ENABLED=0 $(GO) build -C tools/nfpm -ldflags '-s -w' -o ../../$@ github.com/goreleaser/nfpm/v2/cmd/nfpm
build/release: tools/release/go.mod tools/release/go.sum $(wildcard tools/release/*.go)
	CGO_ENABLED=0 $(GO) build -C tools/release -o ../../$@ .

build/staticcheck: tools/lint/go.mod tools/lint/go.sum
	$(GO) build -C tools/lint -o ../../$@ honnef.co/go/tools/cmd/staticcheck

build/analyzers: tools/lint/go.mod tools/lint/go.sum tools/lint/analyzers/main.go
	$(GO) build -C tools/lint -o ../../$@ ./analyzers

build/govulncheck: tools/lint/go.mod tools/lint/go.sum
	$(GO) build -C tools/lint -o ../../$@ golang.org/x/vuln/cmd/govulncheck
