package main

import (
	"errors"
	"strings"
	"testing"

	"flanneld/internal/cli"
)

func TestMigrateWantsTwoAPIs(t *testing.T) {
	for _, args := range []string{"", "--from=2", "--to=3", "--from=2 --to=2", "--from=auto --to=3", "--from=2 --to=4", "--from=v2 --to=v3", "--from=2 --to=3 more"} {
		err := newProgram().run(t.Context(), append([]string{"migrate", "--etcd-endpoints=http://127.0.0.1:1"}, strings.Fields(args)...))
		var e *cli.Exit
		if !errors.As(err, &e) || e.Code == 0 || strings.Contains(e.Text, "127.0.0.1") {
			t.Errorf("migrate %s: %v", args, err)
		}
	}
	err := newProgram().run(t.Context(), strings.Fields("migrate --from=2 --to=3 --etcd-endpoints=http://127.0.0.1:1"))
	if err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("nobody there: %v", err)
	}
}
