package tun_test

import (
	"testing"

	"flanneld/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }
