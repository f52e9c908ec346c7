package subnet

import (
	"encoding/json"
	"net/netip"

	"flanneld/pkg/inet"
)

// Text is the config as the config key holds it, but for secrets: who parses it gets this
// config again where it has none. What ParseConfig fills in is said.
func (c Config) Text() string {
	four, has4 := c.For(inet.IPv4)
	six, has6 := c.For(inet.IPv6)
	doc := struct {
		EnableIPv4 *bool      `json:",omitempty"`
		Network    string     `json:",omitempty"`
		SubnetLen  int        `json:",omitempty"`
		SubnetMin  netip.Addr `json:",omitzero"`
		SubnetMax  netip.Addr `json:",omitzero"`

		EnableIPv6    bool       `json:",omitempty"`
		IPv6Network   string     `json:",omitempty"`
		IPv6SubnetLen int        `json:",omitempty"`
		IPv6SubnetMin netip.Addr `json:",omitzero"`
		IPv6SubnetMax netip.Addr `json:",omitzero"`

		EnableNFTables bool            `json:",omitempty"`
		Backend        json.RawMessage `json:",omitempty"`
	}{EnableNFTables: c.NFTables, Backend: c.Backend}
	if has4 {
		doc.Network, doc.SubnetLen = four.Network.String(), four.SubnetLen
		doc.SubnetMin, doc.SubnetMax = four.SubnetMin, four.SubnetMax
	} else {
		doc.EnableIPv4 = &has4
	}
	if has6 {
		doc.EnableIPv6, doc.IPv6Network, doc.IPv6SubnetLen = true, six.Network.String(), six.SubnetLen
		doc.IPv6SubnetMin, doc.IPv6SubnetMax = six.SubnetMin, six.SubnetMax
	}
	text, err := json.Marshal(doc)
	if err != nil { // a Backend that was never parsed
		return ""
	}
	return Shown(string(text))
}
