package subnet

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
)

// HiddenSecret stands for a secret in the text of a config that is shown.
const HiddenSecret = "(secret)"

// Shown is a config's text for people and programs that need not know its secrets: the
// values of fields that hold one, and whatever has the form of a WireGuard key, wherever it
// stands, for a field may be misspelt. All else is as it is. Only `flanneld config get`
// and the store have the whole.
func Shown(text string) string {
	secrets, ok := findSecrets(text)
	if !ok {
		return HiddenSecret
	}
	var out strings.Builder
	end := 0
	for _, s := range secrets {
		out.WriteString(text[end:s.start] + `"` + HiddenSecret + `"`)
		end = s.end
	}
	return out.String() + text[end:]
}

// ShownWord is a name or a value out of a config for people: what has the form of a WireGuard key
// stands in the wrong place, and is a secret all the same.
func ShownWord(s string) string {
	if looksSecret(s) {
		return HiddenSecret
	}
	return s
}

// span is a value's place in a text, in bytes.
type span struct{ start, end int }

// inside is an object or array on the way to a value.
type inside struct {
	object, secret bool
	key            bool // the next token is a field's name
	of             bool // the next value is a secret field's
}

// findSecrets is false where the text is not JSON, so that nobody can tell.
func findSecrets(text string) (found []span, ok bool) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	path := []inside{{}}
	for {
		before := int(d.InputOffset())
		token, err := d.Token()
		if err != nil {
			return found, len(path) == 1 && strings.TrimSpace(text[before:]) == ""
		}
		at := &path[len(path)-1]
		switch value := token.(type) {
		case json.Delim:
			if value == '}' || value == ']' {
				path = path[:len(path)-1]
				continue
			}
			secret := at.secret || at.of
			at.key, at.of = at.object, false
			path = append(path, inside{object: value == '{', key: value == '{', secret: secret})
		case string:
			if at.key {
				at.key, at.of = false, isSecretField(value)
				continue
			}
			if at.secret || at.of || looksSecret(value) {
				found = append(found, spanOf(text, before, int(d.InputOffset())))
			}
			at.key, at.of = at.object, false
		default:
			if (at.secret || at.of) && token != nil {
				found = append(found, spanOf(text, before, int(d.InputOffset())))
			}
			at.key, at.of = at.object, false
		}
	}
}

// spanOf leaves out what stands between the token before and this one.
func spanOf(text string, before, end int) span {
	return span{before + len(text[before:end]) - len(strings.TrimLeft(text[before:end], " \t\r\n:,")), end}
}

// secretFields are those of flannel's configs that hold a secret, in lower case: of the
// backends wireguard and ipsec.
var secretFields = []string{"psk", "presharedkey", "privatekey"}

func isSecretField(name string) bool { return slices.Contains(secretFields, strings.ToLower(name)) }

// looksSecret tells a WireGuard key by its form: 32 bytes in base64.
func looksSecret(value string) bool {
	var buf [33]byte
	value = strings.TrimSpace(value)
	if len(value) != base64.StdEncoding.EncodedLen(32) {
		return false
	}
	n, err := base64.StdEncoding.Decode(buf[:], bytes.TrimSpace([]byte(value)))
	return err == nil && n == 32
}
