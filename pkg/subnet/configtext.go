package subnet

import "encoding/json"

// Text is the config as the config key holds it: who parses it gets this config again.
// What ParseConfig fills in is said.
func (c Config) Text() string {
	doc := struct {
		Network   string
		SubnetLen int
		SubnetMin string
		SubnetMax string

		EnableNFTables bool            `json:",omitempty"`
		Backend        json.RawMessage `json:",omitempty"`
	}{c.Network.String(), c.SubnetLen, c.SubnetMin.String(), c.SubnetMax.String(), c.NFTables, c.Backend}
	text, err := json.Marshal(doc)
	if err != nil { // a Backend that was never parsed
		return ""
	}
	return string(text)
}
