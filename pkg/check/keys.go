package check

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"flanneld/pkg/condition"
	"flanneld/pkg/printable"
	"flanneld/pkg/status"
)

// KeyFile is that of this host's private key. The key itself is not kept.
type KeyFile struct {
	File   string
	Mode   fs.FileMode
	Public string // of the key in it; "": it has none
	Err    error  // why the daemon cannot use it
}

// keysStep is the name of the step that looks at WireGuard's keys.
const keysStep = "keys"

// rotateFix gives a host another key.
const rotateFix = "flanneld wireguard rotate"

// by reports whether a backend is at work, or is to be.
func (f Facts) by(backend string) bool {
	return f.Status != nil && slices.ContainsFunc(f.Status.Halves(), func(h status.Half) bool {
		return h.Network != nil && h.Network.Backend == backend
	})
}

// byWireGuard reports whether there is anything to say of keys.
func (f Facts) byWireGuard() bool { return f.by(status.WireGuard) || f.keyRefused() }

// keyRefused reports whether the daemon cannot use its key.
func (f Facts) keyRefused() bool {
	if f.Key == nil {
		return false
	}
	c, wrong := f.condition(condition.ConfigInvalid)
	return f.has(condition.KeyUnusable) || f.Key.Err != nil && wrong && strings.Contains(c.Text(), f.Key.File)
}

func goodKeys(f Facts) string {
	return "peers know this host by the public key " + f.publicKey() + ", and no two have one"
}

// publicKey is this host's.
func (f Facts) publicKey() string {
	for _, h := range f.Status.Halves() {
		if h.Device != nil && h.Device.PublicKey != "" {
			return h.Device.PublicKey
		}
	}
	return ""
}

// findKeys looks at this host's key, and for copies of it and of others'.
func findKeys(f Facts) []Finding {
	if found := f.keyFile(); found != nil {
		return found
	}
	s, key := f.Status, f.publicKey()
	if s.Lease != nil && key != "" && s.Lease.PublicKey != "" && s.Lease.PublicKey != key {
		return []Finding{fault([]string{restartFix, logFix}, "peers encrypt for the public key %s, which this host's lease "+
			"names, and its device has %s", s.Lease.PublicKey, key)}
	}
	return f.copies(key)
}

// keyFile is about the file.
func (f Facts) keyFile() []Finding {
	k := f.Key
	if k == nil {
		return nil
	}
	word := printable.Word(k.File)
	rotate := printable.Command("flanneld", "wireguard", "rotate", "--wireguard-key-file="+k.File)
	key := f.publicKey()
	switch {
	case errors.Is(k.Err, fs.ErrNotExist) && !f.keyRefused(): // it makes one
		return nil
	case errors.Is(k.Err, fs.ErrPermission):
		return []Finding{fault([]string{f.provide(k.File, k.Err)}, "flanneld cannot read its private key: %v", k.Err)}
	case k.Err != nil:
		return []Finding{fault([]string{"put the right key into " + word + ", of mode 0600",
			rotate + "   # or make a new one, which peers hear of by the lease"},
			"flanneld cannot use its private key: %v", k.Err)}
	case f.keyRefused():
		c, _ := f.condition(condition.KeyUnusable)
		return []Finding{fault([]string{rotate, logFix}, "flanneld cannot use its private key: %s", c.Text())}
	case k.Mode.Perm()&0o077 != 0:
		return []Finding{{
			Level: Note, Fix: []string{printable.Command("chmod", "600", k.File), rotate + "   # if others may have read it"},
			Text: fmt.Sprintf("others than its owner may use the private key: the mode of %s is %#o", k.File, k.Mode.Perm()),
		}}
	case key != "" && k.Public != key:
		return []Finding{{Level: Note, Fix: []string{restartFix + "   # if it does not within seconds"}, Text: fmt.Sprintf(
			"%s has another key than the device, of the public key %s: flanneld is to take it up", k.File, k.Public)}}
	}
	return nil
}

// copies finds hosts with one key.
func (f Facts) copies(own string) (out []Finding) {
	const ownHost = "this host"
	holders := map[string]map[string]bool{} // by key, the hosts' public IPs
	add := func(key, host string) {
		if holders[key] == nil {
			holders[key] = map[string]bool{}
		}
		holders[key][host] = true
	}
	if own != "" {
		add(own, ownHost)
	}
	host := map[string]string{} // by lease: it has an address of each family, and is one host
	for _, p := range f.Status.Peers {
		id := cmp.Or(p.Key, p.Subnet.String())
		if host[id] == "" {
			host[id] = p.PublicIP.String()
		}
		if p.PublicKey != "" {
			add(p.PublicKey, host[id])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(holders)) {
		names := slices.Sorted(maps.Keys(holders[key]))
		if len(names) < 2 {
			continue
		}
		where := "   # on all of them but one"
		if slices.Contains(names, ownHost) {
			where = "   # on the copy, here or there; if both may be copies, on both"
		}
		out = append(out, fault([]string{rotateFix + where},
			"%s have one WireGuard key, as if one were a copy of the other: peers reach only one of them",
			strings.Join(names, " and ")))
	}
	return out
}
