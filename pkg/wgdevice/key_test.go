package wgdevice_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
	"pgregory.net/rapid"

	"flanneld/pkg/wgdevice"
)

func TestParseKey(t *testing.T) {
	key := wgdevice.NewSecret().Public()
	for text, ok := range map[string]bool{
		key.String():                          true,
		"":                                    false,
		key.String() + "\n":                   false,
		strings.TrimSuffix(key.String(), "="): false,
		strings.Replace(key.String(), "=", "-", 1):         false,
		hex.EncodeToString(key[:]):                         false,
		strings.Repeat("A", 44):                            false, // 33 bytes
		strings.Repeat("A", 43) + "=":                      true,
		strings.Repeat("A", 42) + "B=":                     false, // bits that no key has
		strings.Repeat("A", 20) + "\n" + key.String()[:23]: false,
	} {
		got, err := wgdevice.ParseKey(text)
		if (err == nil) != ok || ok && got.String() != text {
			t.Errorf("%q is %v, %v", text, got, err)
		}
		if _, err := wgdevice.ParseSecret(text); (err == nil) != ok || err != nil && len(text) > 40 && strings.Contains(err.Error(), text[:40]) {
			t.Errorf("%q as a secret: %v", text, err)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add(wgdevice.NewSecret().Public().String())
	f.Fuzz(func(t *testing.T, text string) {
		if key, err := wgdevice.ParseKey(text); err == nil && key.String() != text {
			t.Errorf("%q is the key %v", text, key)
		}
	})
}

// TestSecretIsNotShown prints one in every way that a log knows.
func TestSecretIsNotShown(t *testing.T) {
	s := wgdevice.Secret([]byte(strings.Repeat("q", 32)))
	peer := wgdevice.Peer{PSK: s}
	shown := fmt.Sprint(s, &s, peer, []wgdevice.Secret{s}, map[wgdevice.Secret]int{s: 1}, error(fmt.Errorf("of %v", s)))
	for _, verb := range strings.Split("v +v #v s q x X d b c U 100v", " ") {
		shown += fmt.Sprintf("%"+verb+"%"+verb, s, peer)
	}
	for _, v := range []any{s, peer, map[wgdevice.Secret]wgdevice.Secret{s: s}} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		shown += string(text)
	}
	wgKey := wgtypes.Key(s)
	for _, secret := range []string{"qqq", "113 113", "113,113", "0x71, 0x71", "717171", wgKey.String()[:8]} {
		if strings.Contains(shown, secret) {
			t.Errorf("%q is shown in %s", secret, shown)
		}
	}
}

func TestPublicKeyIsThatOfWgctrl(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s wgdevice.Secret
		copy(s[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "secret"))
		if got, want := s.Public(), wgtypes.Key(s).PublicKey(); !s.IsZero() && got != wgdevice.Key(want) {
			t.Errorf("%v, wanted %v", got, want)
		}
	})
	if !(wgdevice.Secret{}).Public().IsZero() {
		t.Error("no key has a public one")
	}
}
