package monitor

import (
	"testing"

	"flanneld/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m) } // which looks for goroutines left behind, as goleak does
