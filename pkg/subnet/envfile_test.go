package subnet

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

const envText = "FLANNEL_NETWORK=172.7.0.0/16\nFLANNEL_SUBNET=172.7.21.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"

func env21(t testing.TB) Env {
	t.Helper()
	e, err := ParseEnv([]byte(envText))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestMerge(t *testing.T) {
	const docker = "DOCKER_NETWORK_OPTIONS=\" --bip=172.7.21.1/24 --ip-masq=false --mtu=1450\"\n"
	for _, tt := range []struct{ name, old, want string }{
		{"nothing", "", envText},
		{"the same", envText, envText},
		{"written by hand", "FLANNEL_SUBNET=172.7.21.1/24", envText},
		{"ours alone in another order, twice, with blank lines", "\nFLANNEL_MTU=1\nexport FLANNEL_SUBNET='10.0.0.1/8'\r\nFLANNEL_MTU=2\n", envText},
		{"docker's behind ours", strings.ReplaceAll(envText, "1450", "1500") + docker, envText + docker},
		{"docker's alone, as mk-docker-opts.sh leaves them", docker, docker + envText},
		{"no newline at the end", "A=1", "A=1\n" + envText},
		{"no newline at the end, which is ours", "A=1\nFLANNEL_IPMASQ=false", "A=1\n" + envText},
		{"comments and order", "# docker\nA=1\n# the network\nFLANNEL_NETWORK=10.0.0.0/8\n\nB=2\nFLANNEL_MTU=9\n# end\n",
			"# docker\nA=1\n# the network\nFLANNEL_NETWORK=172.7.0.0/16\nFLANNEL_SUBNET=172.7.21.1/24\n\nB=2\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n# end\n"},
		{"the first is missing", "A=1\nFLANNEL_SUBNET=\nB=2\n", "A=1\n" + envText + "B=2\n"},
		{"a comment about ours is no assignment", "#FLANNEL_MTU=9\n", "#FLANNEL_MTU=9\n" + envText},
		{"CRLF", "A=1\r\nFLANNEL_MTU=9\r\nB=2\r\n", "A=1\r\n" + envText + "B=2\r\n"},
		{"duplicates", "FLANNEL_MTU=9\nA=1\nFLANNEL_MTU=8\nFLANNEL_MTU=7\n", envText + "A=1\n"},
		{"a dual-stack flannel's", "FLANNEL_NETWORK=172.7.0.0/16\nFLANNEL_SUBNET=172.7.21.1/24\nFLANNEL_IPV6_NETWORK=fc00:7::/48\nFLANNEL_IPV6_SUBNET=fc00:7:0:23::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n", envText},
		{"names that only begin like ours", "FLANNEL_MTU_EXTRA=1\nMY_FLANNEL_MTU=2\n", "FLANNEL_MTU_EXTRA=1\nMY_FLANNEL_MTU=2\n" + envText},
		{"bytes that are no text", "\x00\xff\n" + envText, "\x00\xff\n" + envText},
	} {
		if got := string(env21(t).Merge([]byte(tt.old))); got != tt.want {
			t.Errorf("%s:\n%q\nwant\n%q", tt.name, got, tt.want)
		}
	}
}

// TestMergeKeepsWhatIsOthers: whatever the file holds, others' lines come back in their
// order, ours can be read, and a second time changes nothing.
func TestMergeKeepsWhatIsOthers(t *testing.T) {
	e := env21(t)
	rapid.Check(t, func(t *rapid.T) {
		line := rapid.OneOf(rapid.SampledFrom([]string{"A=1", "", " ", "# x", "FLANNEL_MTU=7", "FLANNEL_SUBNET=x", "export FLANNEL_NETWORK = \"y\"", "FLANNEL_IPV6_SUBNET=z", "FLANNEL_IPMASQ", "\r", "\ufeffFLANNEL_MTU=3"}), rapid.String())
		old := strings.Join(rapid.SliceOfN(line, 0, 9).Draw(t, "lines"), "\n")
		theirs := func(s string) (out []string) {
			for l := range strings.Lines(s) {
				if name, _, _ := assignment(l); !slices.ContainsFunc(e.variables(), func(v variable) bool { return v.name == name }) && strings.TrimSpace(l) != "" {
					out = append(out, strings.TrimSuffix(l, "\n"))
				}
			}
			return out
		}
		got := e.Merge([]byte(old))
		if !slices.Equal(theirs(string(got)), theirs(old)) {
			t.Fatalf("%q became %q", old, got)
		}
		if back, err := ParseEnv(got); err != nil || back != e {
			t.Fatalf("%q became %q: %+v, %v", old, got, back, err)
		}
		if again := e.Merge(got); !bytes.Equal(again, got) {
			t.Fatalf("%q became %q and then %q", old, got, again)
		}
	})
}

func TestWriteEnvKeepsTheFileWhatItIs(t *testing.T) {
	dir := t.TempDir()
	read := func(path string) string {
		t.Helper()
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	write := func(path, content string, mode fs.FileMode) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	put := func(path string, want bool) {
		t.Helper()
		if wrote, err := WriteEnv(path, env21(t)); err != nil || wrote != want {
			t.Errorf("%s: wrote %t, %v", path, wrote, err)
		}
	}
	plain := filepath.Join(dir, "plain", "subnet.env")
	write(plain, "A=1\n", 0o640)
	if os.Getuid() == 0 {
		if err := os.Chown(plain, 12, 34); err != nil {
			t.Fatal(err)
		}
	}
	put(plain, true)
	put(plain, false)
	info, _ := os.Stat(plain)
	if s := info.Sys().(*syscall.Stat_t); info.Mode() != 0o640 || os.Getuid() == 0 && (s.Uid != 12 || s.Gid != 34) || read(plain) != "A=1\n"+envText {
		t.Errorf("%v, %d:%d, %q", info.Mode(), s.Uid, s.Gid, read(plain))
	}
	if left, _ := os.ReadDir(filepath.Dir(plain)); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}

	// A link stays one, also where it leads to nothing yet.
	link := filepath.Join(dir, "link", "subnet.env")
	write(filepath.Join(dir, "link", "x"), "", 0o600)
	if err := os.Symlink("../elsewhere/the.env", link); err != nil {
		t.Fatal(err)
	}
	put(link, true)
	if target, err := os.Readlink(link); err != nil || target != "../elsewhere/the.env" || read(filepath.Join(dir, "elsewhere", "the.env")) != envText {
		t.Errorf("%q, %v", target, err)
	}
	put(link, false)

	// What is no subnet file is told of and left.
	large := filepath.Join(dir, "large")
	write(large, strings.Repeat("A=1\n", 1<<20), 0o600)
	if _, err := WriteEnv(large, env21(t)); err == nil || !strings.Contains(err.Error(), "longer than the 1048576 bytes") {
		t.Error(err)
	}
	if info, _ := os.Stat(large); info.Size() != 4<<20 {
		t.Errorf("%d bytes are left", info.Size())
	}
	if _, err := ReadEnv(large); err == nil {
		t.Error("a file of megabytes is read")
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, dir} {
		if _, err := WriteEnv(path, env21(t)); err == nil || !strings.Contains(err.Error(), "no ordinary file") {
			t.Errorf("%s: %v", path, err)
		}
	}
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink("loop", loop); err != nil {
		t.Fatal(err)
	}
	if _, err := WriteEnv(loop, env21(t)); err == nil {
		t.Error("a loop of links is written")
	}
}

// TestTwoWritersLoseNothing: another program replaces the file by rename all the time, as
// mk-docker-opts.sh does. Its last line is there in the end, and so are ours; nobody ever
// reads half a file.
func TestTwoWritersLoseNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "subnet.env")
	e := env21(t)
	var writing sync.WaitGroup
	for round := range 300 {
		writing.Go(func() {
			temp := fmt.Sprintf("%s.%d", path, round)
			if err := errors.Join(os.WriteFile(temp, fmt.Appendf(nil, "DOCKER=%d\n", round), 0o600), os.Rename(temp, path)); err != nil {
				t.Error(err)
			}
		})
		if _, err := WriteEnv(path, e); err != nil {
			t.Fatal(err)
		}
		writing.Wait()
		if _, err := WriteEnv(path, e); err != nil {
			t.Fatal(err)
		}
		if content, err := os.ReadFile(path); err != nil || string(content) != fmt.Sprintf("DOCKER=%d\n", round)+envText {
			t.Fatalf("round %d: %q, %v", round, content, err)
		}
	}
}
