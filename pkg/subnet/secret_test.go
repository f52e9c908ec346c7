package subnet

import (
	"encoding/json"
	"strings"
	"testing"
)

const somePSK = "xh3UK6fCL7Y0fJ2BfHkLrOdQYvVqg1hY4x1rCmbC2mM="

// TestShown hides secrets, wherever they stand, and changes nothing else.
func TestShown(t *testing.T) {
	for text, want := range map[string]string{
		`{"Network":"172.7.0.0/16"}`:                                             `{"Network":"172.7.0.0/16"}`,
		`{ "Backend" : { "PSK" :  "` + somePSK + `" , "MTU": 1400 } }`:           `{ "Backend" : { "PSK" :  "(secret)" , "MTU": 1400 } }`,
		`{"Backend":{"psk":"not a key","Type":"wireguard"}}`:                     `{"Backend":{"psk":"(secret)","Type":"wireguard"}}`,
		`{"PSK":12345,"Network":"a"}`:                                            `{"PSK":"(secret)","Network":"a"}`,
		`{"PSK":null,"MTU":true}`:                                                `{"PSK":null,"MTU":true}`,
		`{"PSK":["a",{"b":"c"}],"d":"e"}`:                                        `{"PSK":["(secret)",{"b":"(secret)"}],"d":"e"}`,
		`{"Backend":{"Pre-shared":" ` + somePSK + ` "}}`:                         `{"Backend":{"Pre-shared":"(secret)"}}`,
		`{"\u0050SK":"x","PSK":"y"}`:                                             `{"\u0050SK":"(secret)","PSK":"(secret)"}`,
		`{"x":["PSK","z"],"y":{"PSK":{}},"z":"PSK"}`:                             `{"x":["PSK","z"],"y":{"PSK":{}},"z":"PSK"}`,
		`{"Backend":{"PSK":"` + somePSK:                                          HiddenSecret,
		`PSK=` + somePSK:                                                         HiddenSecret,
		`{"a":1} trailing`:                                                       HiddenSecret,
		`"` + somePSK + `"`:                                                      `"(secret)"`,
		`{"Network":"a","Backend":{"Type":"x"},"PSK":"` + somePSK + `"}` + "\n ": `{"Network":"a","Backend":{"Type":"x"},"PSK":"(secret)"}` + "\n ",
	} {
		if got := Shown(text); got != want {
			t.Errorf("%s is shown as\n%s, want\n%s", text, got, want)
		}
	}
	c, err := ParseConfig(`{"Network":"172.7.0.0/16","Backend":{"Type":"wireguard","PSK":"` + somePSK + `","Mode":"auto"}}`)
	if err != nil {
		t.Fatal(err)
	}
	if text := c.Text(); strings.Contains(text, somePSK) || !strings.Contains(text, `"PSK":"(secret)","Mode":"auto"`) {
		t.Error(text)
	}
}

// FuzzShown puts a PSK into any JSON: it is never shown, and what is shown is JSON.
func FuzzShown(f *testing.F) {
	f.Add(`{"Network":"172.7.0.0/16","Backend":`, `"PSK"`, `}`)
	f.Add(`[1,{"a":{}},`, `"\u0070sk" `, ` ]`)
	f.Fuzz(func(t *testing.T, before, name, after string) {
		if strings.Contains(before+name+after, "s3cret-7") {
			return
		}
		for _, secret := range []string{`"` + somePSK + `"`, `"s3cret-7"`} {
			text := before + "{" + name + ":" + secret + "}" + after
			var key string
			if secret != `"`+somePSK+`"` && (json.Unmarshal([]byte(name), &key) != nil || !strings.EqualFold(key, "PSK")) {
				continue
			}
			shown := Shown(text)
			if strings.Contains(shown, somePSK) || strings.Contains(shown, "s3cret-7") {
				t.Errorf("%s is shown as %s", text, shown)
			}
			if json.Valid([]byte(text)) && !json.Valid([]byte(shown)) {
				t.Errorf("%s is shown as %s", text, shown)
			}
		}
	})
}
