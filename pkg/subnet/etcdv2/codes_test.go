package etcdv2

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"flanneld/internal/etcdtest"
	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
)

// TestCodes has etcd refuse every request with each of its errors, and says what
// becomes of it: nobody takes one for absence or for somebody else's write but
// where it says so.
func TestCodes(t *testing.T) {
	const absent, conflict, blocked, denied, lost, fault = "absent", "conflict", "blocked", "denied", "lost", "fault"
	kind := func(err error) string {
		for sentinel, is := range map[error]string{
			subnet.ErrConflict: conflict, subnet.ErrBlocked: blocked, fs.ErrPermission: denied, subnet.ErrHistoryLost: lost,
		} {
			if errors.Is(err, sentinel) {
				return is
			}
		}
		if err == nil {
			return absent
		}
		return fault
	}
	for _, tt := range []struct {
		code, status int
		message      string
		list, write  string
		watch        string
	}{
		{100, 404, "Key not found", absent, conflict, fault},
		{101, 412, "Compare failed", fault, conflict, fault},
		{102, 403, "Not a file", blocked, blocked, fault},
		{104, 403, "Not a directory", blocked, blocked, fault},
		{105, 412, "Key already exists", fault, conflict, fault},
		{107, 403, "Root is read only", fault, fault, fault},
		{108, 403, "Directory not empty", fault, fault, fault},
		{110, 401, "The request requires user authentication", denied, denied, denied},
		{201, 400, "PrevValue is Required in POST form", fault, fault, fault},
		{202, 400, "The given TTL in POST form is not a number", fault, fault, fault},
		{203, 400, "The given index in POST form is not a number", fault, fault, fault},
		{209, 400, "Invalid field", fault, fault, fault},
		{210, 400, "Invalid POST form", fault, fault, fault},
		{211, 400, "Value provided on refresh", fault, fault, fault},
		{212, 400, "A TTL must be provided on refresh", fault, fault, fault},
		{300, 500, "Raft Internal Error", fault, fault, fault},
		{301, 500, "During Leader Election", fault, fault, fault},
		{400, 400, "watcher is cleared due to etcd recovery", fault, fault, lost},
		{401, 400, "The event in requested index is outdated and cleared", fault, fault, lost},
	} {
		t.Run(fmt.Sprint(tt.code), func(t *testing.T) {
			t.Parallel()
			refusal := etcdReplies(tt.status, "9", fmt.Sprintf(`{"errorCode":%d,"message":%q,"cause":"/coreos.com/network","index":9}`, tt.code, tt.message))
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, lease) { // whose write it was
					etcdReplies(404, "9", `{"errorCode":100,"message":"Key not found","cause":"c","index":9}`)(w, r)
					return
				}
				refusal(w, r)
			})
			r := open(t, Config{Endpoints: []string{server.URL}}, impatient)
			_, list := r.List(t.Context())
			_, put := r.Put(t.Context(), subnet.Entry{Key: lease, Value: "a", TTL: time.Hour})
			e := subnet.Entry{Key: lease, Value: "a", TTL: time.Hour, Modified: 5}
			_, swap := r.Put(t.Context(), e)
			_, refresh := r.Refresh(t.Context(), e)
			remove := r.Delete(t.Context(), e)
			got := []string{kind(list), kind(put), kind(swap), kind(refresh), kind(remove)}
			if want := []string{tt.list, tt.write, tt.write, tt.write, tt.write}; !slices.Equal(got, want) {
				t.Errorf("list, put, swap, refresh, delete: %v, want %v\n%v\n%v", got, want, list, put)
			}
			watch := etcdtest.Follow(t, r, 9).Fails()
			if got := kind(watch); got != tt.watch {
				t.Errorf("watch: %s, want %s: %v", got, tt.watch, watch)
			}
			for _, err := range []error{list, put, swap, refresh, remove, watch} {
				if kind(err) == fault && !strings.Contains(err.Error(), tt.message) {
					t.Errorf("does not say what etcd said: %v", err)
				}
			}
		})
	}
}

// TestInTheWay has directories where keys should be, and keys where directories
// should be; and what is printed takes them away.
func TestInTheWay(t *testing.T) {
	t.Parallel()
	const dir, odd = "/it's here", "/it%27s%20here"
	etcd := lab.StartEtcd(t, lab.EtcdOptions{})
	r := etcdtest.Open(t, Config{Endpoints: etcd.Endpoints(), Prefix: dir}, New)
	url := etcd.Endpoints()[0] + "/v2/keys" + odd
	put := func(key string, modified uint64) error {
		_, err := r.Put(t.Context(), subnet.Entry{Key: key, Value: "x", Modified: modified})
		return err
	}
	for _, tt := range []struct {
		name  string
		there string // a key that is there
		do    func() error
		says  string
		fix   string
	}{
		{"a directory at config", dir + "/config/x", func() error { return put("config", 0) },
			dir + "/config is a directory, and must be a key: delete it with all that lies in it, by: ", "curl -X DELETE '" + url + "/config?recursive=true'"},
		{"a directory at a lease", dir + "/subnets/172.7.21.0-24/x", func() error { return put("subnets/172.7.21.0-24", 0) },
			" is a directory, and must be a key: ", "curl -X DELETE '" + url + "/subnets/172.7.21.0-24?recursive=true'"},
		{"a directory that took a key's place", dir + "/config/x", func() error { return put("config", 3) },
			"/config is a directory", "curl -X DELETE '" + url + "/config?recursive=true'"},
		{"a key at the leases' directory", dir + "/subnets", func() error { return put("subnets/172.7.21.0-24", 0) },
			dir + "/subnets is a key, and must be a directory: delete it, by: ", "curl -X DELETE " + url + "/subnets"},
		{"a key at the prefix", dir, func() error { _, err := r.List(t.Context()); return err },
			dir + " is a key, and must be a directory: delete it, by: ", "curl -X DELETE " + url},
	} {
		etcd.Set(tt.there, "")
		err := tt.do()
		etcdtest.WantError(t, err, tt.says, tt.fix)
		if !errors.Is(err, subnet.ErrBlocked) {
			t.Errorf("%s: not blocked: %v", tt.name, err)
		}
		typed(t, tt.fix)
		if tt.do = func() error { _, err := r.List(t.Context()); return errors.Join(err, put("config", 0)) }; tt.do() != nil {
			t.Errorf("%s: after the fix: %v", tt.name, tt.do())
		}
		etcd.API(2).Delete(dir)
	}
	deep := etcdtest.Open(t, Config{Endpoints: etcd.Endpoints(), Prefix: prefix + "/config"}, New)
	etcd.Set(prefix+"/config", "{}")
	_, err := deep.List(t.Context())
	etcdtest.WantError(t, err, prefix+"/config is a key: give --etcd-prefix without the /config at its end")
}

// typed does what a shell would have curl do, on machines without one as well.
func typed(t *testing.T, command string) {
	t.Helper()
	words, err := exec.Command("sh", "-c", `curl() { printf '%s\n' "$@"; }; `+command).Output()
	args := strings.Split(strings.TrimSpace(string(words)), "\n")
	if err != nil || len(args) != 3 || args[0] != "-X" {
		t.Fatalf("%s: %q, %v", command, args, err)
	}
	request, err := http.NewRequestWithContext(t.Context(), args[1], args[2], nil)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	reply.Body.Close()
	http.DefaultClient.CloseIdleConnections()
}

// TestRemoveNeedsFiles gives curl the files and the user that flanneld has.
func TestRemoveNeedsFiles(t *testing.T) {
	r := open(t, Config{Endpoints: []string{"http://10.4.7.12:2379", "http://10.4.7.13:2379"}, Username: "o'neill"})
	r.members.files.CA, r.members.files.Cert, r.members.files.Key = "ca.pem", "$(reboot).pem", "my key.pem"
	want := `curl -X DELETE --cacert ca.pem --cert '$(reboot).pem' --key 'my key.pem' -u 'o'\''neill' http://10.4.7.12:2379/v2/keys/a%60b`
	if got := r.remove("", "/a`b", false); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}
