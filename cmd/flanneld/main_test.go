package main

import (
	"os"
	"path/filepath"
	"testing"

	"flanneld/internal/lab"
)

// TestMain has the test binary be flanneld where it is called so.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "flanneld" {
		main()
		return
	}
	switch os.Getenv(logHelperEnv) {
	case "log":
		logHelper()
	case "follow":
		followHelper()
	case "as it is":
		main()
		return
	}
	lab.NeedEtcd()
	lab.NeedFlanneld()
	lab.Main(m)
}
