package etcdauto

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"flanneld/pkg/printable"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

const (
	// lookAround is how often it is looked what lies near the place of a config
	// key that is not there.
	lookAround = time.Minute

	// peekTimeout bounds such a look.
	peekTimeout = 2 * time.Second

	// mostNear is how much of what lies there is told.
	mostNear = 3
)

// absence is what was found at the last look.
type absence struct {
	at   time.Time
	said subnet.NoConfig
}

// explain completes a list that has no config key.
func (r *Registry) explain(ctx context.Context, s subnet.Snapshot, err error) (subnet.Snapshot, error) {
	if err != nil || s.Has(subnet.ConfigKey) {
		return s, err
	}
	r.mu.Lock()
	before, chosen, where := r.absence, r.chosen, r.seen.where
	r.mu.Unlock()
	if chosen != Auto {
		where = fmt.Sprintf("is not in etcd's %v store", chosen)
	}
	s.NoConfig = before.said
	if before.said.Where == where && time.Since(before.at) < lookAround {
		return s, nil
	}
	near := r.near(ctx, chosen)
	s.NoConfig = subnet.NoConfig{
		Key: r.Dir() + "/" + subnet.ConfigKey, Where: where, Instead: strings.Join(near[:min(len(near), mostNear)], "; "),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.absence = absence{time.Now(), s.NoConfig}
	return s, nil
}

// near says what lies near the config key's place, in both stores, as far as they
// let themselves be asked. Nobody waits for it for long.
func (r *Registry) near(ctx context.Context, chosen API) (said []string) {
	ctx, cancel := context.WithTimeout(ctx, peekTimeout)
	defer cancel()
	found := map[API]map[string]etcdconn.Found{}
	var mu sync.Mutex
	var both sync.WaitGroup
	for api, s := range r.stores {
		both.Go(func() {
			keys := append([]string{r.config(api)}, nearby(s.Dir(), api)...)
			there, _ := s.Peek(ctx, keys) // what cannot be asked is not told
			if chosen != Auto && api != chosen {
				s.Close()
			}
			mu.Lock()
			defer mu.Unlock()
			found[api] = there
		})
	}
	both.Wait()
	for _, api := range []API{V2, V3} {
		for _, key := range slices.Sorted(maps.Keys(found[api])) {
			if text := r.describe(api, key, found[api][key], chosen); text != "" {
				said = append(said, text)
			}
		}
	}
	return said
}

// nearby are the keys at which people have their config by mistake, or under
// another prefix: those of well-known tutorials and packages, and those which a
// part too many or too few of the prefix leads to.
func nearby(prefix string, api API) (keys []string) {
	dirs := []string{
		"/coreos.com/network", "/atomic.io/network", "/kube-centos/network", "/kubernetes/network", "/flannel/network",
		prefix + "/network", path.Dir(prefix),
	}
	if _, rest, ok := strings.Cut(strings.TrimPrefix(prefix, "/"), "/"); ok {
		dirs = append(dirs, rest) // without the leading part
	}
	add := func(key string) {
		if key != prefix+"/"+subnet.ConfigKey && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	for _, dir := range dirs {
		key := strings.TrimPrefix(path.Join(dir, subnet.ConfigKey), "/")
		if add("/" + key); api == V3 {
			add(key)
		}
	}
	if api != V3 {
		return keys
	}
	// To v3 a slash is a character like any other.
	config := prefix + "/" + subnet.ConfigKey
	bare := strings.TrimPrefix(config, "/")
	for _, slashes := range []string{"", "/", "//"} {
		add(slashes + bare)
	}
	add(config + "/")
	add(prefix + "//" + subnet.ConfigKey)
	if path.Base(prefix) == subnet.ConfigKey {
		add(prefix)
	}
	return keys
}

// describe says what lies at a key, and what to do about it; "": nothing of
// interest.
func (r *Registry) describe(api API, key string, f etcdconn.Found, chosen API) string {
	config := r.config(api)
	same := strings.TrimPrefix(key, "/") == strings.TrimPrefix(config, "/") // but for the slash
	switch {
	case f.Blocked != "" && key == config && (chosen == Auto || chosen == api):
		return f.Blocked
	case f.Blocked != "" || !looksLikeConfig(f.Value):
		return ""
	case same && chosen != Auto && chosen != api:
		return fmt.Sprintf("a config key lies in etcd's %v store: if that is the one that the hosts use, "+
			"give them --etcd-api=%s", api, value(api))
	case key == config: // it does not count, and why has been said; or it has come just now
		return ""
	}
	at := fmt.Sprintf("a config key lies at %s in etcd's %v store", printable.Word(etcdconn.Printable(key)), api)
	dir := path.Dir(key)
	if same || path.Clean(key) != key || dir == "/" || dir == "." { // no prefix leads there, or it leads elsewhere now
		return fmt.Sprintf("%s, which is another key than %s: write it there", at, config)
	}
	return fmt.Sprintf("%s: if that is this cluster's, give flanneld --etcd-prefix=%s", at, printable.Word(dir))
}

// looksLikeConfig tells a config from whatever else may lie at a key of that name.
func looksLikeConfig(text string) bool {
	var c struct{ Network string }
	return json.Unmarshal([]byte(strings.TrimPrefix(text, "\ufeff")), &c) == nil && c.Network != ""
}
