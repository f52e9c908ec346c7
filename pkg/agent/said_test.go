package agent

import "testing"

func TestMerged(t *testing.T) {
	for _, tt := range []struct{ object, more, want string }{
		{``, ``, ``},
		{`{"VtepMAC":"0a:39:13:5c:8e:16"}`, ``, `{"VtepMAC":"0a:39:13:5c:8e:16"}`},
		{``, `{"UDPPort":8285}`, `{"UDPPort":8285}`},
		{`{}`, `{"UDPPort":8285}`, `{"UDPPort":8285}`},
		{`{"PublicKey":"x","Port":1}`, `{"VtepMAC":"m"}`, `{"PublicKey":"x","Port":1,"VtepMAC":"m"}`},
		{`{"PublicKey":"x"}`, `{}`, `{"PublicKey":"x"}`},
	} {
		if got := merged(tt.object, tt.more); got != tt.want {
			t.Errorf("%s with %s: %s, want %s", tt.object, tt.more, got, tt.want)
		}
	}
}

func TestHolds(t *testing.T) {
	for _, tt := range []struct {
		object, fields string
		want           bool
	}{
		{``, ``, true},
		{`{"A":1}`, ``, true},
		{``, `{"A":1}`, false},
		{`{"A":1,"B":"x"}`, `{"B":"x"}`, true},
		{`{"A":1,"B":"x"}`, `{"B":"y"}`, false},
		{`{"A":1,"B":"x"}`, `{"B":"x","C":2}`, false},
		{`no object`, `{"B":"x"}`, false},
	} {
		if got := holds(tt.object, tt.fields); got != tt.want {
			t.Errorf("%s holds %s: %v", tt.object, tt.fields, got)
		}
	}
}
