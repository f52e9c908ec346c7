package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"flanneld/pkg/wgdevice"
)

// TestRotate prints the public key of what lies in the file afterwards, wherever that is told.
func TestRotate(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name string
		args []string
		env  environment
		file string
	}{
		{"by the flag", []string{"--wireguard-key-file=" + filepath.Join(dir, "a")}, environment{keyFileVariable: filepath.Join(dir, "b")}, "a"},
		{"by flannel's variable", nil, environment{keyFileVariable: filepath.Join(dir, "c")}, "c"},
		{"by ours", nil, environment{"FLANNELD_WIREGUARD_KEY_FILE": filepath.Join(dir, "d"), keyFileVariable: filepath.Join(dir, "b")}, "d"},
	} {
		var out bytes.Buffer
		path := filepath.Join(dir, c.file)
		p := &program{env: c.env.lookup, stdout: &out, stderr: &out}
		var last string
		for range 2 {
			out.Reset()
			if err := p.run(t.Context(), append([]string{"wireguard", "rotate"}, c.args...)); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			private, err := wgdevice.LoadKey(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := out.String(); got != private.Public().String()+"\n" || got == last {
				t.Errorf("%s: it prints %q, the key is %v, and was %q", c.name, got, private.Public(), last)
			}
			last = out.String()
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "b")); err == nil {
		t.Error("a variable that is overruled made a file")
	}
}

// TestKeyFileOfTheDaemon is flannel's variable, unless something of ours is given.
func TestKeyFileOfTheDaemon(t *testing.T) {
	for _, c := range []struct {
		args []string
		env  environment
		want string
	}{
		{nil, environment{keyFileVariable: "/a"}, "/a"},
		{nil, environment{keyFileVariable: ""}, "/run/flannel/wgkey"},
		{[]string{"--wireguard-key-file=/b"}, environment{keyFileVariable: "/a"}, "/b"},
		{nil, environment{keyFileVariable: "/a", "FLANNELD_WIREGUARD_KEY_FILE": "/c"}, "/c"},
	} {
		o, err := parseFlags(c.args, c.env.lookup, "1")
		if err != nil || o.WireGuardKeyFile != c.want {
			t.Errorf("%v, %v: %s (%v), want %s", c.args, c.env, o.WireGuardKeyFile, err, c.want)
		}
	}
}
