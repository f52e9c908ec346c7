package subnet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"flanneld/pkg/filewatch"
)

// longestEnv bounds what is read of a subnet file. A larger one is somebody's mistake,
// and not overwritten for it.
const longestEnv = 1 << 20

// ReadEnv reads the subnet file, as far as it can be read. Where there is none the error is fs.ErrNotExist.
func ReadEnv(path string) (Env, error) {
	content, _, err := readFile(path)
	if err != nil {
		return Env{}, err
	}
	e, err := ParseEnv(content)
	if err != nil {
		err = fmt.Errorf("read subnet file %s: %w", path, err)
	}
	return e, err
}

func readFile(path string) ([]byte, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would wait for its writer
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no ordinary file: name another by --subnet-file, or move it away", path)
	}
	if err != nil {
		return nil, nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, longestEnv+1))
	if err == nil && len(content) > longestEnv {
		err = fmt.Errorf("%s is longer than the %d bytes that a subnet file may have: move it away", path, longestEnv)
	}
	return content, info, err
}

// errChanged says that somebody wrote the file at the same moment.
var errChanged = errors.New("somebody else writes it again and again")

// WriteEnv puts the four lines into the subnet file in one step, and makes its folder.
// What others wrote there stays, also in this very moment. A file that says the same
// already is left untouched; wrote tells.
func WriteEnv(path string, e Env) (wrote bool, err error) {
	for range 10 {
		wrote, err = writeOnce(path, e)
		if !errors.Is(err, errChanged) {
			break
		}
	}
	if err != nil {
		return false, fmt.Errorf("write %s: %w", path, err)
	}
	return wrote, nil
}

func writeOnce(path string, e Env) (wrote bool, err error) {
	links := filewatch.Links(path)
	path = links[len(links)-1] // the file is replaced, and not a link to it
	old, info, err := readFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return false, err
		}
	case err != nil:
		return false, err
	}
	content := e.Merge(old)
	if info != nil && bytes.Equal(old, content) {
		return false, nil
	}
	temp, err := writeBeside(path, content, info)
	if err != nil {
		return false, err
	}
	defer os.Remove(temp)
	if info == nil {
		return true, rename(temp, path, unix.RENAME_NOREPLACE)
	}
	if err := rename(temp, path, unix.RENAME_EXCHANGE); err != nil {
		return false, err
	}
	// What was there until now has our file's former name, where it can be read at rest.
	if was, _, err := readFile(temp); err == nil && !bytes.Equal(was, old) {
		return false, errors.Join(errChanged, rename(temp, path, unix.RENAME_EXCHANGE))
	}
	return true, nil
}

// rename is one that overwrites nobody's file unseen, where the file system can.
func rename(temp, path string, how uint) error {
	switch err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, path, how); {
	case errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOENT):
		return errChanged
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS):
		return os.Rename(temp, path)
	case err != nil:
		return err
	}
	return nil
}

// writeBeside makes a file in the same folder, with the rights of the one that there is.
func writeBeside(path string, content []byte, like fs.FileInfo) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return "", err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	mode := fs.FileMode(0o644)
	if like != nil {
		mode = like.Mode().Perm()
		if s, ok := like.Sys().(*syscall.Stat_t); ok {
			_ = f.Chown(int(s.Uid), int(s.Gid)) // only root may
		}
		label := make([]byte, 256)
		if n, err := unix.Getxattr(path, "security.selinux", label); err == nil {
			_ = unix.Fsetxattr(int(f.Fd()), "security.selinux", label[:n], 0)
		}
	}
	if _, err := f.Write(content); err != nil {
		return "", err
	}
	return f.Name(), errors.Join(f.Chmod(mode), f.Sync())
}
