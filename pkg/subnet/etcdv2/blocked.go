package etcdv2

import (
	"fmt"
	"net/url"
	"path"

	"flanneld/pkg/printable"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

// blocked says what is in the place of a key, or of a directory above one, and
// the command that takes it away. The absolute path may come from the store.
func (r *Registry) blocked(member, absolute string, directory bool) error {
	is, mustBe, contents := "key", "directory", ""
	if directory {
		is, mustBe, contents = mustBe, is, " with all that lies in it"
	}
	shown := etcdconn.Printable(absolute)
	if !directory && absolute == r.prefix && path.Base(absolute) == subnet.ConfigKey {
		return &blocked{fmt.Sprintf("%s is a key: give --etcd-prefix without the /%s at its end",
			shown, subnet.ConfigKey)}
	}
	return &blocked{fmt.Sprintf("%s is a %s, and must be a %s: delete it%s, by: %s",
		shown, is, mustBe, contents, r.remove(member, absolute, directory))}
}

// blocked is an error that is [subnet.ErrBlocked].
type blocked struct{ text string }

func (b *blocked) Error() string { return b.text }
func (b *blocked) Unwrap() error { return subnet.ErrBlocked }

// remove is a command for a shell. Whoever types it is asked for the password.
func (r *Registry) remove(member, absolute string, directory bool) string {
	if member == "" {
		member = r.endpoints[0]
	}
	args := []string{"-X", "DELETE"}
	files := r.members.files
	for _, option := range [][2]string{
		{"--cacert", files.CA}, {"--cert", files.Cert}, {"--key", files.Key}, {"-u", r.username},
	} {
		if option[1] != "" {
			args = append(args, option[0], option[1])
		}
	}
	at := member + "/v2/keys" + (&url.URL{Path: absolute}).EscapedPath()
	if directory {
		at += "?recursive=true"
	}
	return printable.Command("curl", append(args, at)...)
}
