package daemon

import (
	"os"
	"testing"

	"flanneld/internal/lab"
)

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		endingWithShell()
		return
	}
	if os.Getenv(hangupEnv) != "" {
		tellHangups()
		return
	}
	lab.Main(m)
}
