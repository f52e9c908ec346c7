package dist_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// subnetEnv is what flanneld writes.
func subnetEnv(ipMasq string) string {
	return "FLANNEL_NETWORK=172.7.0.0/16\nFLANNEL_SUBNET=172.7.21.1/24\nFLANNEL_MTU=1500\nFLANNEL_IPMASQ=" + ipMasq + "\n"
}

// opts is mk-docker-opts.sh in a folder of its own, under one shell, on a host
// with one dockerd.
type opts struct {
	t     *testing.T
	shell []string
	dir   string
	host  string // folders that are the host's
	said  string // on stderr
	noEnv bool   // there is no subnet file
}

func newOpts(t *testing.T, shell []string, content string) *opts {
	o := &opts{t: t, shell: shell, dir: t.TempDir(), host: t.TempDir()}
	write(t, filepath.Join(o.dir, "subnet.env"), content, 0o644)
	for _, dir := range []string{"etc", "units", "bin"} {
		if err := os.Mkdir(filepath.Join(o.host, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(o.host, "bin", "dockerd"), dockerd2010, 0o755)
	return o
}

// onHost puts folders of $1 in place of this system's, hides its dockerds, and
// runs the rest.
const onHost = `set -e
host=$1
shift
for dockerd in /usr/sbin/dockerd /usr/bin/dockerd /usr/local/sbin/dockerd /usr/local/bin/dockerd; do
	[ ! -e $dockerd ] || mount --bind /dev/null $dockerd
done
for units in /usr/lib/systemd/system /lib/systemd/system; do
	[ ! -d $units ] || mount --bind "$host/units" $units
done
if [ -d /etc/alternatives ]; then # where Debian's awk is
	mkdir -p "$host/etc/alternatives"
	mount --bind /etc/alternatives "$host/etc/alternatives"
fi
mount --rbind "$host/etc" /etc
PATH=$host/bin:$PATH exec "$@"
`

// run gives the script both files, and further arguments.
func (o *opts) run(env []string, args ...string) result {
	command := append([]string{"unshare", "--mount", "dash", "-c", onHost, "on-host", o.host}, o.shell...)
	command = append(command, source(o.t, "mk-docker-opts.sh"), "-f", "subnet.env", "-d", "out")
	return run(o.t, o.dir, env, append(command, args...)...)
}

// writes runs the script and compares what it wrote.
func (o *opts) writes(want string, env []string, args ...string) {
	o.t.Helper()
	r := o.run(env, args...)
	if r.code != 0 || r.stdout != "" {
		o.t.Fatalf("%q: exit %d, printed %q", args, r.code, r.stdout+r.stderr)
	}
	if diff := cmp.Diff(o.said, strings.ReplaceAll(r.stderr, "mk-docker-opts.sh: ", "")); diff != "" {
		o.t.Errorf("%q: stderr (-want +got)\n%s", args, diff)
	}
	if diff := cmp.Diff(want, read(o.t, filepath.Join(o.dir, "out"))); diff != "" {
		o.t.Errorf("%q: file (-want +got)\n%s", args, diff)
	}
	files := "out subnet.env"
	if o.noEnv {
		files = "out"
	}
	if left := names(o.t, o.dir); left != files {
		o.t.Errorf("%q left behind: %s", args, left)
	}
}

// fails runs the script, which must end with 1, one clear line and no file.
func (o *opts) fails(message string, args ...string) {
	o.t.Helper()
	r := o.run(nil, args...)
	if r.code != 1 || r.stdout != "" || !strings.Contains(r.stderr, message) || !strings.HasPrefix(r.stderr, "mk-docker-opts.sh: ") {
		o.t.Errorf("%q: exit %d, stdout %q, stderr %q; want 1 and %q", args, r.code, r.stdout, r.stderr, message)
	}
	if strings.Count(r.stderr, "\n") != 1 || len(r.stderr) > 500 {
		o.t.Errorf("%q: not one line: %q", args, r.stderr)
	}
	if left := names(o.t, o.dir); left != "subnet.env" {
		o.t.Errorf("%q left behind: %s", args, left)
	}
}

func TestOptsWritesTheDocumentedFile(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		newOpts(t, shell, subnetEnv("false")).writes(`DOCKER_OPT_BIP="--bip=172.7.21.1/24"
DOCKER_OPT_IPMASQ="--ip-masq=true"
DOCKER_OPT_MTU="--mtu=1500"
DOCKER_OPTS=" --bip=172.7.21.1/24 --ip-masq=true --mtu=1500"
`, nil)
	})
}

// TestOptsFlags goes through every combination of the switches.
func TestOptsFlags(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		for flags := range 1 << 4 {
			individual, combined, noMasq, direct := flags&1 != 0, flags&2 != 0, flags&4 != 0, flags&8 != 0
			var args []string
			for i, flag := range []string{"-i", "-c", "-m", "-r"} {
				if flags&(1<<i) != 0 {
					args = append(args, flag)
				}
			}
			for ipMasq, dockerMasq := range map[string]string{"true": "false", "false": "true"} {
				lines, all := `DOCKER_OPT_BIP="--bip=172.7.21.1/24"`+"\n", " --bip=172.7.21.1/24"
				if !noMasq {
					lines += fmt.Sprintf("DOCKER_OPT_IPMASQ=\"--ip-masq=%s\"\n", dockerMasq)
					all += " --ip-masq=" + dockerMasq
				}
				lines += `DOCKER_OPT_MTU="--mtu=1500"` + "\n"
				all += " --mtu=1500"
				if direct {
					lines += `DOCKER_OPT_ALLOW_DIRECT_ROUTING="--allow-direct-routing=true"` + "\n"
					all += " --allow-direct-routing=true"
				}
				want := ""
				if individual || !combined {
					want += lines
				}
				if combined || !individual {
					want += fmt.Sprintf("DOCKER_OPTS=\"%s\"\n", all)
				}
				o := newOpts(t, shell, subnetEnv(ipMasq))
				write(t, filepath.Join(o.host, "bin", "dockerd"), dockerd28, 0o755)
				o.writes(want, nil, args...)
			}
		}
	})
}

// TestOptsKey: the combined variable may have another name, and what it holds
// already stays in front, also when a shell would take it for code.
func TestOptsKey(t *testing.T) {
	const options = " --bip=172.7.21.1/24 --ip-masq=true --mtu=1500"
	for _, tc := range []struct{ name, key, present, want string }{
		{"absent", "", "", `DOCKER_OPTS="` + options + `"`},
		{"empty", "", "DOCKER_OPTS=", `DOCKER_OPTS="` + options + `"`},
		{"present", "", "DOCKER_OPTS=--debug  -H fd://", `DOCKER_OPTS="--debug  -H fd://` + options + `"`},
		{"renamed", "DOCKER_NETWORK_OPTIONS", "DOCKER_OPTS=--debug", `DOCKER_NETWORK_OPTIONS="` + options + `"`},
		{"renamed and present", "_Opts2", "_Opts2=-D", `_Opts2="-D` + options + `"`},
		{"code", "", "DOCKER_OPTS=" + `--log-opt="$(touch x)" ` + "`touch y` \\", `DOCKER_OPTS="--log-opt=\"\$(touch x)\" \` + "`touch y\\`" + ` \\` + options + `"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell []string) {
				args := []string{"-c"}
				if tc.key != "" {
					args = append(args, "-k", tc.key)
				}
				o := newOpts(t, shell, subnetEnv("false"))
				o.writes(tc.want+"\n", []string{tc.present}, args...)
				// A shell that reads the file gets the same text back.
				key, present, _ := strings.Cut(tc.present, "=")
				if tc.key == "" && key != "" {
					command := append(append([]string{}, shell...), "-c", `. ./out && printf %s "$DOCKER_OPTS"`)
					if got := succeed(t, o.dir, nil, command...); got != present+options {
						t.Errorf("read back: %q", got)
					}
				}
			})
		})
	}
}

func TestOptsArguments(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		o := newOpts(t, shell, subnetEnv("maybe"))
		for _, key := range []string{"", "1A", "A-B", "A B", "A=", "x;touch x", "$(touch x)", "A\nB", "ä"} {
			o.fails("not the name of a variable", "-k", key)
		}
		o.fails("cannot read .", "-f", ".")
		for _, args := range [][]string{{"-h"}, {"-x"}, {"-f"}, {"-i", "true"}} {
			r := o.run(nil, args...)
			if r.code != 1 || r.stdout != "" || !strings.Contains(r.stderr, "usage: mk-docker-opts.sh [-f") {
				t.Errorf("%q: exit %d, stdout %q, stderr %q", args, r.code, r.stdout, r.stderr)
			}
		}
		// What is left out is not judged.
		o.writes("DOCKER_OPTS=\" --bip=172.7.21.1/24 --mtu=1500\"\n", nil, "-m", "-c")
	})
}

// TestOptsReplacesInOneStep: a reader that has the old file open keeps it whole.
func TestOptsReplacesInOneStep(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		o := newOpts(t, shell, subnetEnv("false"))
		out := filepath.Join(o.dir, "out")
		write(t, out, "old\n", 0o600)
		old, err := os.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		defer old.Close()
		if r := o.run(nil); r.code != 0 {
			t.Fatal(r)
		}
		kept := make([]byte, 100)
		if n, _ := old.Read(kept); string(kept[:n]) != "old\n" {
			t.Errorf("the old file was written over: %q", kept[:n])
		}
		if info, err := os.Stat(out); err != nil || info.Mode() != 0o644 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	})
}

// TestOptsOtherTargets: links and devices stay what they are.
func TestOptsOtherTargets(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		o := newOpts(t, shell, subnetEnv("false"))
		if r := o.run(nil, "-i", "-d", "/dev/stdout"); r.code != 0 || !strings.HasSuffix(r.stdout, "--mtu=1500\"\n") {
			t.Errorf("to /dev/stdout: %+v", r)
		}
		link := filepath.Join(o.dir, "link")
		if err := os.Symlink("target", link); err != nil {
			t.Fatal(err)
		}
		if r := o.run(nil, "-i", "-d", "link"); r.code != 0 || read(t, filepath.Join(o.dir, "target")) == "" {
			t.Errorf("through a link: %+v", r)
		}
		if info, err := os.Lstat(link); err != nil || info.Mode().Type() != os.ModeSymlink {
			t.Errorf("the link became %v, %v", info.Mode(), err)
		}
		for _, target := range []string{"/dev/full", "nowhere/out", ".", ""} {
			if r := o.run(nil, "-d", target); r.code != 1 || !strings.Contains(r.stderr, "mk-docker-opts.sh: cannot write "+target+"\n") {
				t.Errorf("to %q: %+v", target, r)
			}
		}
		if left := names(t, o.dir); left != "link subnet.env target" {
			t.Errorf("left behind: %s", left)
		}
	})
}

// TestOptsIntoTheSubnetFileInTurn: as CentOS's packages have it. flanneld's lines and everybody
// else's stay, and the script's own are there once, however often it runs.
func TestOptsIntoTheSubnetFileInTurn(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		const others = "# of somebody else\nA=\"1 2\"\n"
		o := newOpts(t, shell, subnetEnv("false")+others)
		file := filepath.Join(o.dir, "subnet.env")
		for _, want := range []struct {
			args []string
			text string
		}{
			{[]string{"-c", "-k", "DOCKER_NETWORK_OPTIONS"}, "DOCKER_NETWORK_OPTIONS=\" --bip=172.7.21.1/24 --ip-masq=true --mtu=1500\"\n"},
			{[]string{"-c", "-k", "DOCKER_NETWORK_OPTIONS"}, "DOCKER_NETWORK_OPTIONS=\" --bip=172.7.21.1/24 --ip-masq=true --mtu=1500\"\n"},
			{[]string{"-i"}, "DOCKER_NETWORK_OPTIONS=\" --bip=172.7.21.1/24 --ip-masq=true --mtu=1500\"\n" +
				"DOCKER_OPT_BIP=\"--bip=172.7.21.1/24\"\nDOCKER_OPT_IPMASQ=\"--ip-masq=true\"\nDOCKER_OPT_MTU=\"--mtu=1500\"\n"},
			{[]string{"-c", "-m", "-k", "DOCKER_NETWORK_OPTIONS"}, "DOCKER_NETWORK_OPTIONS=\" --bip=172.7.21.1/24 --mtu=1500\"\n"},
		} {
			if r := o.run(nil, append([]string{"-d", "./subnet.env"}, want.args...)...); r.code != 0 || r.stderr != "" {
				t.Fatalf("%q: exit %d, %q", want.args, r.code, r.stderr)
			}
			if diff := cmp.Diff(subnetEnv("false")+others+want.text, read(t, file)); diff != "" {
				t.Errorf("%q: -want +got\n%s", want.args, diff)
			}
			if left := names(t, o.dir); left != "subnet.env" {
				t.Errorf("left behind: %s", left)
			}
		}
	})
}
