package backend_test

import (
	"fmt"
	"strings"
	"testing"

	"flanneld/pkg/backend"
	"flanneld/pkg/backend/hostgw"
	"flanneld/pkg/backend/vxlan"
	"flanneld/pkg/subnet"
)

var backends = map[string]backend.Factory{hostgw.Type: hostgw.New, vxlan.Type: vxlan.New}

func TestIgnoredFields(t *testing.T) {
	const unknown = "flanneld knows no such field"
	const noIPv6 = "the config does not use IPv6: set EnableIPv6 to true"
	const noIPv4 = "the config does not use IPv4: set EnableIPv4 to true"
	meant := func(name string) string { return "did you mean " + name + "?" }
	for _, c := range []struct {
		fields, options string // beside Network and Type
		want            []backend.Ignored
	}{
		{``, ``, nil},
		{`"SubnetLen":24,"subnetmin":"","SUBNETMAX":"0.0.0.0","EnableIPv4":true,"EnableIPv6":false,"EnableNFTables":true`,
			`"vni":3,"Port":0,"Directrouting":true,"MTU":9000,"GBP":false,"Learning":true,"DisableTxChecksum":true`, nil},
		{`"SubnetLenn":24`, ``, []backend.Ignored{{"SubnetLenn", meant("SubnetLen")}}},
		{`"Enable_NFTables":true`, ``, []backend.Ignored{{"Enable_NFTables", meant("EnableNFTables")}}},
		{`"frobnicate":null,"":1`, ``, []backend.Ignored{{"", unknown}, {"frobnicate", unknown}}},
		{``, `"Directroutng":true`, []backend.Ignored{{"Backend.Directroutng", meant("Backend.DirectRouting")}}},
		{``, `"DirectRoute":true`, []backend.Ignored{{"Backend.DirectRoute", meant("Backend.DirectRouting")}}},
		{`"VNI":3,"DirectRouting":true`, ``, []backend.Ignored{
			{"DirectRouting", meant("Backend.DirectRouting")}, {"VNI", meant("Backend.VNI")}}},
		{``, `"SubnetLen":24`, []backend.Ignored{{"Backend.SubnetLen", meant("SubnetLen")}}},
		{``, `"MacPrefix":"0E-2A","PSK":"s3cret"`, []backend.Ignored{
			{"Backend.MacPrefix", "it is for hosts with Windows alone"}, {"Backend.PSK", unknown}}},
		{`"IPv6Network":"fc00::/48","IPv6SubnetLen":64,"IPv6SubnetMin":"","ipv6subnetmax":""`, ``, []backend.Ignored{
			{"IPv6Network", noIPv6}, {"IPv6SubnetLen", noIPv6}, {"IPv6SubnetMin", noIPv6}, {"ipv6subnetmax", noIPv6}}},
		{`"EnableIPv6":true,"IPv6Network":"fc00::/48","IPv6SubnetLen":64,"IPv6SubnetMin":"","ipv6subnetmax":"::"`, ``, nil},
		{`"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/48","SubnetLen":24,"subnetmin":""`, ``, []backend.Ignored{
			{"Network", noIPv4}, {"SubnetLen", noIPv4}, {"subnetmin", noIPv4}}},
		{`"EnableIPv6":true,"IPv6Network":"fc00::/48","IPv6SubnetLenn":64`, `"IPv6Network":"fc00::/48"`, []backend.Ignored{
			{"IPv6SubnetLenn", meant("IPv6SubnetLen")}, {"Backend.IPv6Network", meant("IPv6Network")}}},
	} {
		text := fmt.Sprintf(`{"Network":"172.7.0.0/16"%s,"Backend":{"Type":"VxLAN"%s}}`, comma(c.fields), comma(c.options))
		if _, err := subnet.ParseConfig(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := backend.IgnoredFields(text, backends); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s\n got: %v\nwant: %v", text, got, c.want)
		}
	}
}

func comma(s string) string {
	if s == "" {
		return ""
	}
	return "," + s
}

// Each backend has its own options; where nothing can be told, nothing is.
func TestIgnoredFieldsByBackend(t *testing.T) {
	for text, want := range map[string]string{
		`{"Network":"172.7.0.0/16","Backend":{"Type":"host-gw","VNI":3}}`:          "[Backend.VNI (flanneld knows no such field)]",
		`{"Network":"172.7.0.0/16","Backend":{"Type":"later","VNI":3},"Netork":1}`: "[Netork (did you mean Network?)]",
		`{"Network":"172.7.0.0/16","Netork":1}`:                                    "[Netork (did you mean Network?)]",
		`{"Network":"172.7.0.0/99","Netork":1}`:                                    "[]",
		`{"Netork":1`:                                                              "[]",
		``:                                                                         "[]",
	} {
		if got := fmt.Sprint(backend.IgnoredFields(text, backends)); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// As many fields as a key has room for are no burden.
func TestIgnoredFieldsAreBounded(t *testing.T) {
	var fields strings.Builder
	for i := range 1500 {
		fmt.Fprintf(&fields, `,"f%d":1`, i)
	}
	text := `{"Network":"172.7.0.0/16"` + fields.String() + `}`
	if len(text) > subnet.LongestValue {
		t.Fatal(len(text))
	}
	if got := backend.IgnoredFields(text, backends); len(got) != 1500 {
		t.Errorf("%d fields", len(got))
	}
}
