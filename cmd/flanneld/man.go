package main

import (
	"context"
	"fmt"
	"strings"
)

func manVerb() verb {
	return verb{
		name:    "man",
		summary: "print the manual page",
		examples: []example{
			{"flanneld man | man -l -", "read it"},
			{"flanneld man > /usr/local/share/man/man8/flanneld.8", "install it"},
		},
		topics: func(*verbOptions) []topic { return nil },
		run: func(_ context.Context, c *call) error {
			_, err := fmt.Fprint(c.stdout, manPage(version, verbs()))
			return err
		},
	}
}

// manPage is in the language of man(7), made from the tables of flags and verbs.
func manPage(version string, all []verb) string {
	var o options
	m := &page{}
	m.line(`.TH FLANNELD 8 "" "flanneld %s" "System administration"`, escape(version))
	m.section("NAME")
	m.line(`flanneld \- one network for the containers of many hosts`)
	m.section("SYNOPSIS")
	m.line(".B flanneld\n[\\fIflags\\fR]")
	for _, v := range all {
		m.line(".br\n.B flanneld %s\n[\\fIflags\\fR] %s", escape(v.name), escape(v.args))
	}
	m.section("DESCRIPTION")
	m.text("flanneld takes a subnet of the cluster's network for this host from etcd, keeps the routes to all other hosts' subnets, " +
		"and writes a file by which dockerd learns its own. With a verb it does something else, and ends.")
	m.section("VERBS")
	for _, v := range all {
		m.verb(v)
	}
	m.section("FLAGS")
	m.text("A flag without a value is switched on, and off by --FLAG=false. One dash does as well as two.")
	for _, t := range flagTable(&o) {
		m.topic(t)
	}
	m.section("ENVIRONMENT")
	m.text("Each flag can be given as a variable too: FLANNELD_ and its name in upper case, with _ for -, such as FLANNELD_ETCD_ENDPOINTS. " +
		"The command line wins. Verbs read those about etcd.")
	m.entry("NO_COLOR", "set to anything, it keeps colours out of what is shown on a terminal")
	m.entry("NOTIFY_SOCKET", "where a service manager wants to be told that everything is in place (sd_notify(3))")
	m.section("FILES")
	m.entry("/run/flannel/subnet.env", "the subnet file, unless --subnet-file names another: this host's subnet and MTU, for dockerd")
	m.section("EXIT STATUS")
	m.entry("0", "after a signal; of a verb: it is done, or all is well")
	m.entry("1", "a wrong value, a failure at start; of a verb: it could not be done, or all is not well")
	m.entry("2", "a command line that cannot be read; of status and check: they could not find out")
	m.section("SEE ALSO")
	m.line(".BR ip-route (8), bridge (8), iptables (8)")
	return m.String()
}

// page gathers lines of man(7).
type page struct{ strings.Builder }

func (m *page) line(format string, args ...any) { fmt.Fprintf(m, format+"\n", args...) }

func (m *page) section(name string) { m.line(".SH %s", name) }

// text is a paragraph.
func (m *page) text(s string) { m.line(".PP\n%s", escape(s)) }

func (m *page) entry(name, text string) {
	m.line(".TP\n.B %s\n%s", escape(name), escape(text))
}

func (m *page) topic(t topic) {
	m.line(".SS %s", escape(upperFirst(t.title)))
	for _, e := range t.entries {
		m.entry(e.synopsis(), e.help+e.defaults())
	}
}

func (m *page) verb(v verb) {
	m.line(".SS flanneld %s %s", escape(v.name), escape(v.args))
	m.text(upperFirst(v.summary) + ".")
	if v.text != "" {
		m.text(v.text)
	}
	var own []topic
	for _, t := range v.topicsWithHelp() {
		if t.title == etcdTopic(new(options)).title {
			m.text("It takes the flags about etcd that are below.")
		} else if t.title != "other" {
			own = append(own, t)
		}
	}
	for _, t := range own {
		for _, e := range t.entries {
			m.entry(e.synopsis(), e.help+e.defaults())
		}
	}
	for _, e := range v.examples {
		m.line(".PP\n.nf\n%s\n.fi\n.RS\n%s\n.RE", escape(e.command), escape(e.purpose))
	}
}

// escape makes a text such that man(7) shows it as it is.
func escape(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	var lines []string
	for line := range strings.Lines(s) {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			line = `\&` + line
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "")
}
