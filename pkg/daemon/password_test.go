package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadPassword: the first line of the file counts.
func TestReadPassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	for _, tt := range []struct{ content, want, fails string }{
		{content: "s3cret", want: "s3cret"},
		{content: "s3cret\n", want: "s3cret"},
		{content: "s3cret\r\nsecond line\n", want: "s3cret"},
		{content: " a b ", want: " a b "},
		{content: "", fails: "the first line of --etcd-password-file=" + file + " is empty: write the password for etcd into it"},
		{content: "\ns3cret", fails: "the first line of --etcd-password-file=" + file + " is empty: write the password for etcd into it"},
	} {
		if err := os.WriteFile(file, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Etcd{PasswordFile: file}.ReadPassword()
		if string(got) != tt.want || (err == nil) != (tt.fails == "") || err != nil && err.Error() != tt.fails {
			t.Errorf("%q: %q, %v", tt.content, string(got), err)
		}
	}
	if got, err := (Etcd{Password: "s3cret"}).ReadPassword(); err != nil || string(got) != "s3cret" {
		t.Errorf("by the flag: %q, %v", string(got), err)
	}
	if got, err := (Etcd{}).ReadPassword(); err != nil || got != "" {
		t.Errorf("none: %q, %v", string(got), err)
	}
	_, err := Etcd{PasswordFile: file + "2"}.ReadPassword()
	if want := "read the password for etcd, --etcd-password-file: open " + file + "2: no such file"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("no file: %v", err)
	}
}
