package main

import (
	"os"
	"path/filepath"
)

// credentialsVariable is the folder in which systemd hands a service what LoadCredential= and
// the like name (systemd.exec(5)).
const credentialsVariable = "CREDENTIALS_DIRECTORY"

// takeCredentials goes by the service manager's credentials where nothing else is told of the
// same: etcd-password, etcd-cert with etcd-key, and etcd-ca. None of them has to be there.
func (o *options) takeCredentials(env func(string) (string, bool), told func(flag string) bool) {
	folder, _ := env(credentialsVariable)
	if folder == "" {
		return
	}
	for _, c := range []struct {
		name  string
		into  *string
		rules []string // flags that tell something else
	}{
		{"etcd-password", &o.Etcd.PasswordFile, []string{passwordFlag, passwordFileFlag}},
		{"etcd-cert", &o.Etcd.CertFile, []string{certFileFlag, etcdKeyFileFlag}},
		{"etcd-key", &o.Etcd.KeyFile, []string{certFileFlag, etcdKeyFileFlag}},
		{"etcd-ca", &o.Etcd.CAFile, []string{caFileFlag}},
	} {
		overruled := false
		for _, flag := range c.rules {
			overruled = overruled || told(flag)
		}
		file := filepath.Join(folder, c.name)
		if _, err := os.Stat(file); err == nil && !overruled {
			*c.into = file
		}
	}
}
