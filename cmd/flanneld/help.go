package main

import (
	"fmt"
	"strings"
)

// help is the text of --help: the table by topic, with defaults.
func help(topics []topic, verbs []verb) string {
	var b strings.Builder
	b.WriteString(`flanneld gives the containers of many hosts one network: it takes a subnet for
this host from etcd and keeps the routes to all other hosts' subnets.

usage: flanneld [flags]           the daemon
       flanneld VERB --help       one of the verbs below

A flag without a value is switched on, and off by --FLAG=false. Each can also be
given in the environment: FLANNELD_ and its name in upper case, with _ for -,
such as FLANNELD_ETCD_ENDPOINTS. The command line wins.

verbs
`)
	for _, v := range verbs {
		b.WriteString(v.synopsis())
	}
	writeTopics(&b, topics)
	return strings.TrimSuffix(b.String(), "\n")
}

func writeTopics(b *strings.Builder, topics []topic) {
	for _, t := range topics {
		fmt.Fprintf(b, "\n%s\n", t.title)
		for _, e := range t.entries {
			fmt.Fprintf(b, "  %s\n", e.synopsis())
			for line := range strings.Lines(e.help + e.defaults()) {
				fmt.Fprintf(b, "      %s\n", strings.TrimSuffix(line, "\n"))
			}
		}
	}
}

func (e entry) synopsis() string {
	switch {
	case e.isBool():
		return "--" + e.name
	case e.name == outputName:
		return "-" + e.name + " " + e.arg
	}
	return "--" + e.name + "=" + e.arg
}

func (e entry) defaults() string {
	if e.initial == "" {
		return ""
	}
	return " (default " + e.initial + ")"
}
