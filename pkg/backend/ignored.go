package backend

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/nearest"
	"flanneld/pkg/subnet"
)

// Ignored is a field of the config that has no effect.
type Ignored struct {
	Field  string // "Backend.Directroutng"
	Remark string // why, or what may be meant
}

func (i Ignored) String() string { return fmt.Sprintf("%s (%s)", i.Field, i.Remark) }

// IgnoredFields are the fields of a valid config's text that have no effect with
// these backends, the config's own first, in the order of their names.
func IgnoredFields(text string, backends map[string]Factory) (out []Ignored) {
	c, err := subnet.ParseConfig(text)
	if err != nil {
		return nil
	}
	levels := [2]level{
		{"", text, func(name string) bool { return readByConfig(name) && unused(c, name) == "" }, c},
		{"Backend.", string(c.Backend), func(name string) bool { return readByBackend(c, name, backends) }, c},
	}
	for at, l := range levels {
		for _, name := range l.names() {
			if !l.read(name) {
				out = append(out, Ignored{l.prefix + subnet.ShownWord(name), remark(name, at, levels)})
			}
		}
	}
	return out
}

// level is one of the config's two objects.
type level struct {
	prefix string
	object string
	read   func(name string) bool // a field of this name has an effect
	config subnet.Config
}

func (l level) names() []string {
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(l.object), &fields) != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(fields))
}

// wrongValue is what no field takes: who reads the field stumbles over it.
var wrongValue = json.RawMessage("[]")

func readByConfig(name string) bool {
	text, err := json.Marshal(map[string]json.RawMessage{"Network": json.RawMessage(`"10.0.0.0/8"`), name: wrongValue})
	if err == nil {
		_, err = subnet.ParseConfig(string(text))
	}
	return err != nil
}

func readByBackend(c subnet.Config, name string, backends map[string]Factory) bool {
	build, known := backends[c.BackendType]
	text, err := json.Marshal(map[string]any{"Type": c.BackendType, name: wrongValue})
	if !known || err != nil {
		return true // nobody can tell
	}
	c.Backend = text
	if c.Options(&struct{ Type string }{}) != nil {
		return true
	}
	return build.Check(c) != nil
}

// names are the fields that some flannel has, of the config and of Backend. What is
// meant is one of them.
var names = [2][]string{
	{
		"Network", "SubnetLen", "SubnetMin", "SubnetMax", "Backend", "EnableIPv4", "EnableIPv6", "EnableNFTables",
		"IPv6Network", "IPv6SubnetLen", "IPv6SubnetMin", "IPv6SubnetMax",
	},
	{
		"Type", "VNI", "Port", "GBP", "DirectRouting", "Learning", "MTU", "DisableTxChecksum",
		"ListenPort", "ListenPortV6", "PSK", "PersistentKeepaliveInterval", "Mode",
	},
}

// withoutEffect are fields that a flannel has and that do nothing here, in lower case.
var withoutEffect = map[string]string{
	"backend.macprefix": "it is for hosts with Windows alone",
}

// unused says of a field of the config why its family is not used; "": it is.
func unused(c subnet.Config, name string) string {
	field, f := strings.ToLower(name), inet.IPv4
	if of6, is6 := strings.CutPrefix(field, "ipv6"); is6 {
		field, f = of6, inet.IPv6
	}
	ofRange := slices.Contains([]string{"network", "subnetlen", "subnetmin", "subnetmax"}, field)
	if _, used := c.For(f); !ofRange || used {
		return ""
	}
	return fmt.Sprintf("the config does not use %v: set Enable%v to true", f, f)
}

// remark is what there is to say of a field that has no effect.
func remark(name string, at int, levels [2]level) string {
	lower := strings.ToLower(name)
	if why := unused(levels[0].config, name); at == 0 && why != "" {
		return why
	}
	if why := withoutEffect[strings.ToLower(levels[at].prefix)+lower]; why != "" {
		return why
	}
	known := func(at int) map[string]string { // by the name in lower case
		out := map[string]string{}
		for _, name := range names[at] {
			if levels[at].read(name) {
				out[strings.ToLower(name)] = levels[at].prefix + name
			}
		}
		return out
	}
	here := known(at)
	meant := here[nearest.Of(lower, slices.Values(slices.Sorted(maps.Keys(here))))]
	if elsewhere := known(1 - at)[lower]; elsewhere != "" { // it stands in the wrong object
		meant = elsewhere
	}
	if meant == "" {
		return "flanneld knows no such field"
	}
	return "did you mean " + meant + "?"
}

// AnyHost is one on which every backend of a family works. Its MTU is the largest there is.
func AnyHost(f inet.Family) Host {
	ip := map[inet.Family]netip.Addr{
		inet.IPv4: netip.MustParseAddr("192.0.2.1"),   // RFC 5737
		inet.IPv6: netip.MustParseAddr("2001:db8::1"), // RFC 3849
	}[f]
	link := kernel.Link{
		Name: "the external interface", MTU: 65535, Up: true,
		Addrs: []kernel.Addr{{Prefix: netip.PrefixFrom(ip, 24)}},
	}
	return Host{Link: link, Local: ip, PublicIP: ip}
}

// Check builds the backend of each family on any host, to see that the config's options
// are right. Its errors are the Factory's.
func (build Factory) Check(c subnet.Config) error {
	for _, f := range c.Families() {
		half, _ := c.For(f)
		if _, err := build(half, AnyHost(f)); err != nil {
			return err
		}
	}
	return nil
}
