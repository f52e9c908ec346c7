package wgdevice

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// The protocol by which wireguard-go is configured is lines of key=value; of a peer after
// its public_key (www.wireguard.com/xplatform, "Configuration Protocol").

// appendConfig writes a request.
func appendConfig(b *bytes.Buffer, c wgtypes.Config) {
	if c.PrivateKey != nil {
		writeKey(b, "private_key", *c.PrivateKey)
	}
	if c.ListenPort != nil {
		fmt.Fprintf(b, "listen_port=%d\n", *c.ListenPort)
	}
	for i := range c.Peers {
		appendPeer(b, &c.Peers[i])
	}
}

func appendPeer(b *bytes.Buffer, p *wgtypes.PeerConfig) {
	writeKey(b, "public_key", p.PublicKey)
	if p.UpdateOnly || p.Remove {
		b.WriteString("update_only=true\n")
	}
	if p.Remove {
		b.WriteString("remove=true\n")
		return
	}
	if p.PresharedKey != nil {
		writeKey(b, "preshared_key", *p.PresharedKey)
	}
	if p.Endpoint != nil {
		fmt.Fprintf(b, "endpoint=%s\n", p.Endpoint.AddrPort())
	}
	if p.ReplaceAllowedIPs {
		b.WriteString("replace_allowed_ips=true\n")
	}
	for _, ip := range p.AllowedIPs {
		fmt.Fprintf(b, "allowed_ip=%s\n", &ip)
	}
	// The last one: what it has the device send at once finds all of it in place.
	if p.PersistentKeepaliveInterval != nil {
		fmt.Fprintf(b, "persistent_keepalive_interval=%d\n", int(*p.PersistentKeepaliveInterval/time.Second))
	}
}

func writeKey(b *bytes.Buffer, name string, key wgtypes.Key) {
	b.WriteString(name)
	b.WriteByte('=')
	b.Write(hex.AppendEncode(b.AvailableBuffer(), key[:]))
	b.WriteByte('\n')
}

// parseDevice reads an answer. Its lines of unknown names are skipped.
func parseDevice(text []byte) (s Settings, peers []FoundPeer, err error) {
	peers = make([]FoundPeer, 0, bytes.Count(text, []byte("\npublic_key="))+1)
	var peer *FoundPeer
	for len(text) > 0 {
		line, rest, _ := bytes.Cut(text, []byte{'\n'})
		text = rest
		name, value, found := bytes.Cut(line, []byte{'='})
		switch {
		case !found && len(line) > 0:
			return s, nil, fmt.Errorf("read the device's answer: a line of %d bytes has no =", len(line))
		case string(name) == "public_key":
			peers = append(peers, FoundPeer{})
			peer = &peers[len(peers)-1]
			err = parseHex(peer.Key[:], value)
		case peer == nil:
			err = s.parseLine(name, value)
		default:
			err = peer.parseLine(name, value)
		}
		if err != nil { // which shows at most a byte of the value
			return s, nil, fmt.Errorf("read %s of the device's answer: %w", name, err)
		}
	}
	return s, peers, nil
}

func (s *Settings) parseLine(name, value []byte) (err error) {
	switch string(name) {
	case "private_key":
		err = parseHex(s.Private[:], value)
	case "listen_port":
		s.ListenPort, err = parseInt[int](value, 16)
	}
	return err
}

func (p *FoundPeer) parseLine(name, value []byte) (err error) {
	switch string(name) {
	case "preshared_key":
		err = parseHex(p.PSK[:], value)
	case "endpoint":
		if p.Endpoint, err = netip.ParseAddrPort(string(value)); err == nil {
			p.Endpoint = netip.AddrPortFrom(p.Endpoint.Addr().Unmap(), p.Endpoint.Port())
		}
	case "persistent_keepalive_interval":
		p.Keepalive, err = parseInt[int](value, 16)
	case "last_handshake_time_sec":
		var sec int64
		if sec, err = parseInt[int64](value, 62); sec != 0 {
			p.LastHandshake = time.Unix(sec, 0)
		}
	case "last_handshake_time_nsec":
		var ns int64
		if ns, err = parseInt[int64](value, 30); ns != 0 && !p.LastHandshake.IsZero() {
			p.LastHandshake = time.Unix(p.LastHandshake.Unix(), ns)
		}
	case "rx_bytes":
		p.Received, err = parseInt[int64](value, 63)
	case "tx_bytes":
		p.Sent, err = parseInt[int64](value, 63)
	case "allowed_ip":
		var prefix netip.Prefix
		if prefix, err = netip.ParsePrefix(string(value)); err == nil {
			p.allow(prefix)
		}
	}
	return err
}

func parseHex(key []byte, value []byte) error {
	if len(value) != hex.EncodedLen(len(key)) {
		return fmt.Errorf("it has %d characters, not %d", len(value), hex.EncodedLen(len(key)))
	}
	_, err := hex.Decode(key, value)
	return err
}

func parseInt[T int | int64](value []byte, bits int) (T, error) {
	n, err := strconv.ParseUint(string(value), 10, bits)
	return T(n), err
}
