package etcdv2

import (
	"errors"
	"io"
	"net/http"
	"path"
	"strings"
	"testing"
	"time"

	"flanneld/pkg/subnet"
)

// FuzzReplies lets a server answer anything.
func FuzzReplies(f *testing.F) {
	f.Add(200, "9", `{"action":"get","node":{"key":"/coreos.com/network","dir":true,"nodes":[`+
		`{"key":"/coreos.com/network/config","value":"{}","modifiedIndex":4,"createdIndex":4},null,`+
		`{"key":"/coreos.com/network/subnets","dir":true,"nodes":[{"key":"/coreos.com/network/subnets/172.7.21.0-24","value":"v",`+
		`"expiration":"2026-01-02T03:04:05.678Z","ttl":-3,"modifiedIndex":8,"createdIndex":8}]}]}}`)
	f.Add(200, "9", `{"action":"expire","node":{"key":"/coreos.com/network/subnets/a","modifiedIndex":8,"createdIndex":7},`+
		`"prevNode":{"key":"/coreos.com/network/subnets/a","value":"v","ttl":9223372036854775807,"modifiedIndex":7}}`)
	f.Add(404, "9", `{"errorCode":100,"message":"Key not found","cause":"/coreos.com","index":9}`)
	f.Add(412, "9", `{"errorCode":101,"message":"Compare\nfailed","cause":"[1 != 2]","index":9}`)
	f.Add(400, "", `{"errorCode":401}`)
	f.Add(500, "9", `{"errorCode":300,"message":"\u001b[2J"}`)
	f.Add(307, "18446744073709551615", "")

	r := open(f, Config{Endpoints: []string{"http://127.0.0.1:2379"}})
	f.Fuzz(func(t *testing.T, status int, index, reply string) {
		r.members.wire = fixed(func() *http.Response {
			header := http.Header{clusterHeader: {"1c45a069f3a1d796"}, indexHeader: {index}}
			return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(reply))}
		})
		snapshot, err := r.List(t.Context())
		sane(t, snapshot.Entries, err)
		stored, err := r.Put(t.Context(), subnet.Entry{Key: lease, Value: "v", TTL: time.Hour, Modified: 7})
		if err == nil && stored.Key != lease {
			t.Errorf("stored %+v", stored)
		}
		sane(t, nil, err)
		sane(t, nil, r.Delete(t.Context(), subnet.Entry{Key: lease, Modified: 7}))
		last := uint64(7)
		sane(t, nil, r.Watch(t.Context(), last, func(events []subnet.Event) {
			for _, e := range events {
				if e.Modified <= last {
					t.Errorf("event %+v after %d", e, last)
				}
				last = e.Modified
				sane(t, []subnet.Entry{e.Entry}, errors.New("fine"))
			}
		}))
	})
}

// fixed is a network on which every request gets the same answer.
type fixed func() *http.Response

func (f fixed) RoundTrip(*http.Request) (*http.Response, error) { return f(), nil }

func sane(t *testing.T, entries []subnet.Entry, err error) {
	t.Helper()
	if err != nil && strings.ContainsAny(err.Error(), "\n\r\x1b") {
		t.Errorf("error %q", err)
	}
	for _, e := range entries {
		if dir := path.Dir(e.Key); e.TTL < 0 || e.Key == "" || dir != "." && dir != "subnets" {
			t.Errorf("entry %+v", e)
		}
	}
}
