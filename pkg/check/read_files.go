package check

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// asDaemon is where a file of the daemon's is found from here: it may have a mount
// namespace of its own.
func (f *Facts) asDaemon(file string) string {
	root := fmt.Sprintf("/proc/%d/root", f.PID)
	if _, err := os.Stat(root + "/"); f.PID == 0 || err != nil || file == "" {
		return file
	}
	return filepath.Join(root, file)
}

// readFile reads a file as the daemon would.
func (f *Facts) readFile(file string) ([]byte, error) {
	path := f.asDaemon(file)
	content, err := readRegular(path)
	if err == nil {
		err = f.user.mayRead(path)
	}
	var wrong *fs.PathError
	if errors.As(err, &wrong) {
		err = &fs.PathError{Op: wrong.Op, Path: file, Err: wrong.Err}
	}
	return content, err
}

// longestFile is far more than a key or a bundle of certificates has, in bytes.
const longestFile = 16 << 20

// readRegular reads a file, and none that never ends: a pipe to which nobody writes, or a device.
func readRegular(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "read", Path: path, Err: errors.New("it is no regular file")}
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(file, longestFile))
}

// readCertificates reads those that the daemon uses, and their key.
func (f *Facts) readCertificates() {
	e := f.Status.Etcd
	f.Certificates = f.certificates(e.CertFile, e.KeyFile, e.CAFile)
}

// certificates are those of flanneld's files for etcd, empty where there is none; of the
// key there is an error only.
func (f *Facts) certificates(cert, key, ca string) (all []Certificate) {
	for _, file := range []string{cert, ca} {
		if file != "" {
			all = append(all, f.certificate(file))
		}
	}
	if key == "" || cert == "" {
		return all
	}
	private, err := f.readFile(key)
	if err == nil && all[0].Err == nil {
		public, _ := f.readFile(cert)
		if _, err = tls.X509KeyPair(public, private); err != nil {
			err = fmt.Errorf("%s is no key of the certificate %s", key, cert)
		}
	}
	if err != nil {
		all = append(all, Certificate{File: key, Err: err})
	}
	return all
}

// certificate is that one of a PEM file which ends first.
func (f *Facts) certificate(file string) Certificate {
	out := Certificate{File: file}
	content, err := f.readFile(file)
	if err != nil {
		out.Err = err
		return out
	}
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			break
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil &&
			(out.NotAfter.IsZero() || c.NotAfter.Before(out.NotAfter)) {
			out.NotBefore, out.NotAfter = c.NotBefore, c.NotAfter
		}
	}
	if out.NotAfter.IsZero() {
		out.Err = fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return out
}

// user is whom the daemon runs as, where that is not root with all that root may.
type user struct {
	limited bool
	uid     int
	groups  []int
}

// readUser reads proc_pid_status(5).
func readUser(pid int) (u user) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u
	}
	for line := range strings.Lines(string(content)) {
		name, rest, _ := strings.Cut(line, ":")
		words := strings.Fields(rest)
		switch {
		case len(words) < 1:
		case name == "Uid" && len(words) == 4:
			u.uid, _ = strconv.Atoi(words[3]) // of file system access
		case name == "Gid" && len(words) == 4:
			gid, _ := strconv.Atoi(words[3])
			u.groups = append(u.groups, gid)
		case name == "Groups":
			for _, w := range words {
				gid, _ := strconv.Atoi(w)
				u.groups = append(u.groups, gid)
			}
		case name == "CapEff":
			const readAll = 1<<1 | 1<<2 // CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH (capability.h)
			capabilities, _ := strconv.ParseUint(words[0], 16, 64)
			u.limited = capabilities&readAll == 0
		}
	}
	return u
}

// mayRead is an error where the mode of a file keeps a user from reading it.
func (u user) mayRead(path string) error {
	info, err := os.Stat(path)
	if err != nil || !u.limited {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t) // on Linux
	bit := fs.FileMode(0o004)
	switch {
	case int(owner.Uid) == u.uid:
		bit = 0o400
	case slices.Contains(u.groups, int(owner.Gid)):
		bit = 0o040
	}
	if info.Mode()&bit == 0 {
		return &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
	}
	return nil
}
