package main

import (
	"fmt"
	"strings"
)

// help is the text of --help: the table by topic, with defaults.
func help(topics []topic) string {
	var b strings.Builder
	b.WriteString(`flanneld gives the containers of many hosts one network: it takes a subnet for
this host from etcd and keeps the routes to all other hosts' subnets.

usage: flanneld [flags]

A flag without a value is switched on, and off by --FLAG=false. Each can also be
given in the environment: FLANNELD_ and its name in upper case, with _ for -,
such as FLANNELD_ETCD_ENDPOINTS. The command line wins.
`)
	for _, t := range topics {
		fmt.Fprintf(&b, "\n%s\n", t.title)
		for _, e := range t.entries {
			fmt.Fprintf(&b, "  %s\n", e.synopsis())
			for line := range strings.Lines(e.help + e.defaults()) {
				fmt.Fprintf(&b, "      %s\n", strings.TrimSuffix(line, "\n"))
			}
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func (e entry) synopsis() string {
	if e.isBool() {
		return "--" + e.name
	}
	return "--" + e.name + "=" + e.arg
}

func (e entry) defaults() string {
	if e.initial == "" {
		return ""
	}
	return " (default " + e.initial + ")"
}
