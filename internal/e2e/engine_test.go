package e2e

import (
	"encoding/json"
)

// engine is a dockerd, and where it puts its rules.
type engine struct {
	docker   string // "20.10" is Debian's; "29"
	firewall string // "iptables-nft", "iptables-legacy"; "nftables": dockerd's own tables
}

func (e engine) String() string { return "docker " + e.docker + ", " + e.firewall }

// iptables is the flavour that the machine has.
func (e engine) iptables() string {
	if e.firewall == "nftables" {
		return "iptables-nft"
	}
	return e.firewall
}

// path is dockerd's PATH. Only the one that works by nft gets the newer nft.
func (e engine) path() string {
	if e.firewall == "nftables" {
		return "/srv/nft:" + machinePath
	}
	return machinePath
}

// engineIs installs a dockerd, with settings in its config file.
func (m *machine) engineIs(e engine, settings map[string]any) {
	m.t.Helper()
	m.engine = e
	m.iptablesIs(e.iptables())
	config := map[string]any{}
	for key, value := range settings {
		config[key] = value
	}
	if e.docker == "29" {
		m.sh("ln -s /srv/dockerd /usr/local/sbin/dockerd")
		// Debian's runc knows no time namespaces.
		config["features"] = map[string]bool{"time-namespaces": false}
	}
	if e.firewall == "nftables" {
		config["firewall-backend"] = "nftables"
	}
	content, err := json.Marshal(config)
	if err != nil {
		m.t.Fatal(err)
	}
	m.write("/etc/docker/daemon.json", string(content), 0o644)
}
