// Package filewatch notices that a file was changed, replaced or deleted, wherever a
// link leads and whether or not its folder is there. It only says so: what changed, who
// hears of it finds out.
package filewatch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// Watch is of one file. The zero value tells nothing.
type Watch struct {
	path    string
	changed chan struct{} // one slot
}

// New prepares the watch of a file; Run starts it.
func New(path string) *Watch {
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	return &Watch{path: path, changed: make(chan struct{}, 1)}
}

// Changed signals that there may be something new; a burst of changes is one signal.
func (w *Watch) Changed() <-chan struct{} { return w.changed }

func (w *Watch) String() string { return "watch of " + w.path }

// folders are watched rather than the file, which is replaced by rename. A file that is
// written in place counts once its writer closes it: before that there is half of it.
const folders = unix.IN_ONLYDIR | unix.IN_CREATE | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB |
	unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF

// lookAgain is how often to see whether a folder has been replaced without an event, as
// by a mount over it.
const lookAgain = 10 * time.Second

// together is how long events are taken for one.
const together = 10 * time.Millisecond

// Run works until ctx ends. Where the kernel has no watch for us, that is logged, and
// nothing is told.
func (w *Watch) Run(ctx context.Context) error {
	if w.path == "" {
		<-ctx.Done()
		return nil
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		klog.ErrorS(err, "Cannot watch a file: changes of it are noticed late", "file", w.path,
			"advice", "raise fs.inotify.max_user_instances by sysctl")
		<-ctx.Done()
		return nil
	}
	events := os.NewFile(uintptr(fd), "inotify")
	stop := context.AfterFunc(ctx, func() { _ = events.Close() })
	defer func() {
		if stop() {
			_ = events.Close()
		}
	}()
	s := set{fd: fd, path: w.path}
	buffer := make([]byte, 64<<10)
	w.signal() // what happened before
	for {
		if s.arm() {
			w.signal()
		}
		for told := false; !told; { // events of other files in the folder are none
			if err := events.SetReadDeadline(time.Now().Add(lookAgain)); err != nil && ctx.Err() == nil {
				return fmt.Errorf("wait for changes of files: %w", err)
			}
			n, err := events.Read(buffer)
			switch {
			case ctx.Err() != nil:
				return nil
			case errors.Is(err, os.ErrDeadlineExceeded):
				told = true
			case err != nil:
				return fmt.Errorf("read changes of files: %w", err)
			case s.concern(buffer[:n]):
				w.signal()
				told = true
			}
		}
		select { // what comes in numbers is told of once
		case <-time.After(together):
		case <-ctx.Done():
			return nil
		}
	}
}

func (w *Watch) signal() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// set is what is watched.
type set struct {
	fd     int
	path   string
	names  map[int32]map[string]bool // by watch descriptor: what matters in a folder
	failed bool                      // the last time, as logged
}

// Links are a path, and where it is a link, those that it leads on to; the last one is
// the file. It follows as many as the kernel does.
func Links(path string) []string {
	all := []string{path}
	for range 40 {
		target, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Dir(path) + "/" + target // where "..", after a link, is not what it seems
		}
		path, all = target, append(all, target)
	}
	return all
}

// arm watches the folders in which the file and each link on the way to it are, or of a
// folder that is not there the nearest one above it. It tells whether they are others
// than before.
func (s *set) arm() (news bool) {
	before := s.names
	s.names = map[int32]map[string]bool{}
	for _, path := range Links(s.path) {
		s.watch(path)
	}
	for wd := range s.names {
		news = news || before[wd] == nil
	}
	for wd := range before {
		if s.names[wd] == nil {
			_, _ = unix.InotifyRmWatch(s.fd, uint32(wd)) // which may have gone by itself
			news = true
		}
	}
	return news
}

// watch watches the nearest folder above a path that is there.
func (s *set) watch(path string) {
	for {
		dir, name := filepath.Dir(path), filepath.Base(path)
		wd, err := unix.InotifyAddWatch(s.fd, dir, folders)
		switch {
		case err == nil:
			if s.names[int32(wd)] == nil {
				s.names[int32(wd)] = map[string]bool{}
			}
			s.names[int32(wd)][name] = true
			s.failed = false
			return
		case dir == path || !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR):
			if !s.failed {
				klog.ErrorS(err, "Cannot watch a folder: changes in it are noticed late", "folder", dir)
			}
			s.failed = true
			return
		}
		path = dir
	}
}

// concern tells whether events are about what is watched for.
func (s *set) concern(events []byte) bool {
	for len(events) >= unix.SizeofInotifyEvent {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&events[0]))
		end := unix.SizeofInotifyEvent + int(e.Len)
		if end > len(events) {
			return true
		}
		name := strings.TrimRight(string(events[unix.SizeofInotifyEvent:end]), "\x00")
		events = events[end:]
		names, watched := s.names[e.Wd]
		switch {
		case e.Mask&unix.IN_Q_OVERFLOW != 0:
			return true
		case !watched:
		case name == "": // the folder itself
			if e.Mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_IGNORED|unix.IN_UNMOUNT) != 0 {
				return true
			}
		case !names[name]:
		case e.Mask&unix.IN_CREATE == 0 || e.Mask&unix.IN_ISDIR != 0 || s.isLink():
			return true
		}
	}
	return false
}

// isLink tells whether the file is a link, whose making ends without a close. Of a file
// that is made, its writer's close tells.
func (s *set) isLink() bool {
	info, err := os.Lstat(s.path)
	return err == nil && info.Mode()&os.ModeSymlink != 0
}
