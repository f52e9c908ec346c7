package subnet

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
)

// Env is the content of subnet.env, by which dockerd and others learn what
// this host was given.
type Env struct {
	Network netip.Prefix
	Subnet  netip.Prefix // masked; written with the subnet's first address
	MTU     int          // bytes
	IPMasq  bool         // flanneld masquerades, so docker must not
}

// Marshal is the file's exact content.
func (e Env) Marshal() []byte {
	return fmt.Appendf(nil, "FLANNEL_NETWORK=%v\nFLANNEL_SUBNET=%v/%d\nFLANNEL_MTU=%d\nFLANNEL_IPMASQ=%t\n",
		e.Network, e.Subnet.Addr().Next(), e.Subnet.Bits(), e.MTU, e.IPMasq)
}

// ParseEnv reads subnet.env as people write it: spaces, quotes, comments,
// "export", CRLF and further variables do no harm, and only FLANNEL_SUBNET is
// required.
func ParseEnv(content []byte) (Env, error) {
	var e Env
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		line := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		line = strings.TrimSpace(strings.TrimPrefix(line, "export "))
		name, value, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		value = envValue(value)
		var err error
		switch strings.TrimSpace(name) {
		case "FLANNEL_NETWORK":
			e.Network, err = parsePrefix(value)
		case "FLANNEL_SUBNET":
			e.Subnet, err = parsePrefix(value)
		case "FLANNEL_MTU":
			e.MTU, err = strconv.Atoi(value)
		case "FLANNEL_IPMASQ":
			e.IPMasq, err = strconv.ParseBool(value)
		}
		if err != nil {
			return Env{}, fmt.Errorf("%s has the value %q, which cannot be read", strings.TrimSpace(name), value)
		}
	}
	if err := lines.Err(); err != nil {
		return Env{}, fmt.Errorf("not a subnet file: %w", err)
	}
	if !e.Subnet.IsValid() {
		return Env{}, errors.New("FLANNEL_SUBNET is missing")
	}
	return e, nil
}

// envValue is a value without its quotes, and without a comment behind it.
func envValue(s string) string {
	s = strings.TrimSpace(s)
	for _, quote := range []string{`"`, "'"} {
		if inside, quoted := strings.CutPrefix(s, quote); quoted {
			inside, _, _ = strings.Cut(inside, quote)
			return strings.TrimSpace(inside)
		}
	}
	s, _, _ = strings.Cut(s, "#")
	return strings.TrimRight(s, "\"' \t")
}

// parsePrefix takes the first of several networks, between commas, that is of a family
// that is read.
func parsePrefix(s string) (first netip.Prefix, err error) {
	for part := range strings.SplitSeq(s, ",") {
		p, e := netip.ParsePrefix(strings.TrimSpace(part))
		switch {
		case e != nil:
			return netip.Prefix{}, e
		case !first.IsValid() && legible(p.Addr()):
			first = p.Masked()
		}
	}
	if !first.IsValid() {
		err = errors.New("not of a family that is read")
	}
	return first, err
}

// ReadEnv reads the subnet file. Where there is none the error is fs.ErrNotExist.
func ReadEnv(path string) (Env, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return Env{}, err
	}
	e, err := ParseEnv(content)
	if err != nil {
		return Env{}, fmt.Errorf("read subnet file %s: %w", path, err)
	}
	return e, nil
}

// WriteEnv replaces the subnet file in one step, and makes its folder. A file
// that already says the same is left untouched; wrote tells.
func WriteEnv(path string, e Env) (wrote bool, err error) {
	content := e.Marshal()
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return false, nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	return true, renameio.WriteFile(path, content, 0o644, renameio.WithStaticPermissions(0o644))
}
