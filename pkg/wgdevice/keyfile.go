package wgdevice

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// LoadKey reads a private key from a file as `wg genkey` and flannel write it, or makes
// one, once: base64, mode 0600, in a folder that is made where it is not there. A
// file that others can read is closed to them, where that can be done. One that has no key is an error, and is
// never replaced.
func LoadKey(path string) (Secret, error) {
	s, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return Secret{}, fmt.Errorf("make the folder of the WireGuard key: %w", err)
	}
	s = NewSecret()
	err = storeKey(path, s, os.Link)
	if errors.Is(err, fs.ErrExist) { // another process has made one
		return readKey(path)
	}
	if err != nil {
		return Secret{}, err
	}
	klog.InfoS("Made a private key for WireGuard", "file", path, "publicKey", s.Public())
	return s, nil
}

// Rotate puts a new private key in the place of a file's, which need not be there, and
// returns the public one. A process that has read the old key keeps it until it reads
// again.
func Rotate(path string) (Key, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return Key{}, fmt.Errorf("make the folder of the WireGuard key: %w", err)
	}
	s := NewSecret()
	if err := storeKey(path, s, os.Rename); err != nil {
		return Key{}, err
	}
	return s.Public(), nil
}

// keyFileSize is far more than a key file has, in bytes.
const keyFileSize = 4096

func readKey(path string) (Secret, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a named pipe would make it wait for ever
	if err != nil {
		return Secret{}, fmt.Errorf("read the WireGuard key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file: name another one, or remove it")
	}
	if err == nil && info.Mode().Perm()&0o077 != 0 && f.Chmod(0o600) == nil { // where it cannot be, check says so
		klog.InfoS("Others could read the private key of WireGuard; only the owner can now",
			"file", path, "mode", fmt.Sprintf("%#o", info.Mode().Perm()))
	}
	var content []byte
	if err == nil {
		content, err = io.ReadAll(io.LimitReader(f, keyFileSize))
	}
	if err == nil && len(content) == keyFileSize {
		content = nil // whatever that is
	}
	if err != nil {
		return Secret{}, fmt.Errorf("read the WireGuard key %s: %w", path, err)
	}
	s, err := ParseSecret(strings.TrimSpace(string(content)))
	if err == nil && s.IsZero() {
		err = errors.New("it is all zeros")
	}
	if err != nil {
		return Secret{}, fmt.Errorf("the file %s has no WireGuard key (%w): put the right one there, "+
			"or remove the file, and a new key is made", path, err)
	}
	return s.clamped(), nil
}

// storeKey writes a file of the key, and gives it its name by place.
func storeKey(path string, s Secret, place func(from, to string) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // of mode 0600
	if err != nil {
		return fmt.Errorf("write the WireGuard key %s: %w", path, unnamed(err))
	}
	defer os.Remove(f.Name())
	_, err = io.WriteString(f, encode(s)+"\n")
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = place(f.Name(), path)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("write the WireGuard key %s: %w", path, unnamed(err))
	}
	return nil
}

// unnamed is an error without the name of a file that has another one at each attempt: who repeats
// attempts would take each for news.
func unnamed(err error) error {
	var at *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &at):
		return at.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}

// syncFolder makes a new name survive a power failure.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
