package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"flanneld/pkg/backend"
	"flanneld/pkg/daemon"
	"flanneld/pkg/subnet"
)

// row is one of docs/compatibility.md's, about a flag or a field.
type row struct{ flannel, verdict, remark string }

// compatibility reads the rows below a heading whose names look like pattern.
func compatibility(t *testing.T, heading, pattern string) map[string]row {
	t.Helper()
	content, err := os.ReadFile("../../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(content), "\n## "+heading)
	if !found {
		t.Fatalf("no chapter %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	rows := map[string]row{}
	line := regexp.MustCompile("(?m)^\\| `" + pattern + "` \\|([^|]*)\\| ([a-z ]+) \\|([^|]*)\\|$")
	for _, m := range line.FindAllStringSubmatch(text, -1) {
		if _, twice := rows[m[1]]; twice {
			t.Errorf("%s has two rows", m[1])
		}
		rows[m[1]] = row{strings.TrimSpace(m[2]), m[3], strings.TrimSpace(m[4])}
	}
	for name, r := range rows {
		explained := r.verdict == "same" || r.remark != ""
		if !slices.Contains([]string{"same", "better", "differs", "no effect", "not supported", "new"}, r.verdict) || !explained {
			t.Errorf("%s: %+v", name, r)
		}
		if (r.verdict == "new") != (r.flannel == "") {
			t.Errorf("%s is new, or not: %+v", name, r)
		}
	}
	return rows
}

func listed(t *testing.T, file string) []string {
	t.Helper()
	content, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(content))
}

// TestCompatibilityOfFlags: no flag of flannel's and none of ours is missing from
// docs/compatibility.md, and what it says of them holds.
func TestCompatibilityOfFlags(t *testing.T) {
	rows := compatibility(t, "Flags", "--([a-z0-9_-]+)")
	flannels := listed(t, "flannel-flags.txt")
	ours := map[string]bool{}
	new(program).root().Flags().VisitAll(func(f *pflag.Flag) { ours[f.Name] = true })
	for _, name := range flannels {
		if r, there := rows[name]; !there || r.verdict == "new" || !ours[name] {
			t.Errorf("--%s of flannel: %+v, known: %t", name, r, ours[name])
		}
	}
	for name := range ours {
		r, there := rows[name]
		if !there || r.verdict == "new" && slices.Contains(flannels, name) {
			t.Errorf("--%s of ours: %+v", name, r)
		}
	}
	for name, r := range rows {
		if !ours[name] {
			t.Errorf("nobody knows --%s", name)
			continue
		}
		value := "x"
		if isBool(name) {
			value = "true"
		}
		got, err := parseFlags([]string{"--" + name + "=" + value}, environment{}.lookup, "")
		switch {
		case r.verdict == "not supported" && err == nil:
			t.Errorf("--%s is taken", name)
		case r.verdict == "no effect" && r.flannel != "older" && got.noEffect["--"+name] == "":
			t.Errorf("--%s has no effect, and nobody says so: %v", name, err)
		}
	}
}

// typeWith is a backend that has an option.
func typeWith(option string) string {
	switch option {
	case "ListenPort", "ListenPortV6", "PSK", "PersistentKeepaliveInterval", "Mode":
		return "wireguard"
	}
	return "vxlan"
}

// TestCompatibilityOfFields: the same of the config key.
func TestCompatibilityOfFields(t *testing.T) {
	rows := compatibility(t, "The config key", "([A-Za-z0-9.]+)")
	for _, name := range listed(t, "flannel-fields.txt") {
		if r, there := rows[name]; !there || r.verdict == "new" {
			t.Errorf("%s of flannel: %+v", name, r)
		}
	}
	for name, r := range rows {
		object, options, value := map[string]string{}, "", `[]`
		field, isOption := strings.CutPrefix(name, "Backend.")
		object["Network"] = `"172.7.0.0/16"`
		if isOption {
			options = fmt.Sprintf(`,%q:%s`, field, value)
		} else {
			object[field] = value
		}
		if name != "Backend" {
			object["Backend"] = fmt.Sprintf(`{"Type":%q%s}`, typeWith(field), options)
		}
		var fields []string
		for key, value := range object {
			fields = append(fields, fmt.Sprintf("%q:%s", key, value))
		}
		text := "{" + strings.Join(fields, ",") + "}"
		ignored := backend.IgnoredFields(text, daemon.Backends())
		has := len(ignored) == 1 && ignored[0].Field == name
		if _, err := subnet.ParseConfig(text); has != (r.verdict == "no effect") || r.verdict == "not supported" && err == nil {
			t.Errorf("%s is said to be %q: %s is read as %v, ignored %v", name, r.verdict, text, err, ignored)
		}
	}
}
