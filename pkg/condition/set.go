package condition

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/printable"
)

// Set is what is wrong now. It logs each condition when it comes, when it reads
// otherwise than before, and when it is over; one that comes and goes again and again,
// ever more rarely. The zero value is empty; it is for any number of goroutines.
type Set struct {
	// Note is told what the log is told of conditions, as phrases. Nil: nobody wants to know.
	Note func(text string)

	mu    sync.Mutex
	now   map[id]Condition
	lines lines
}

// printable is c as it may be shown: parts of it may come from etcd or from another
// program.
func (c Condition) printable() Condition {
	for _, text := range []*string{&c.Subject, &c.Message, &c.Cause, &c.Fix} {
		*text = printable.Bounded(*text, printable.Longest)
	}
	return c
}

type id struct {
	code    Code
	subject string
}

// linesAtOnce bounds what a store full of garbage can put into the log.
const linesAtOnce = 20

// Set notes that c is so, since now unless it was so before. What it says is
// logged unless it said the same before.
func (s *Set) Set(c Condition) {
	if news := s.put(c); s.due(c, news) {
		s.logNew(c)
	}
}

// due tells whether a condition that is there is to be logged.
func (s *Set) due(c Condition, news bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lines.due(id{c.Code, c.Subject}, news, s.now)
}

// put takes c up, and reports whether it says something new.
func (s *Set) put(c Condition) (news bool) {
	c = c.printable()
	s.mu.Lock()
	defer s.mu.Unlock()
	before, there := s.now[id{c.Code, c.Subject}]
	c.Since, c.Severity = before.Since, c.Code.Severity()
	if !there {
		c.Since = time.Now()
	}
	if s.now == nil {
		s.now = map[id]Condition{}
	}
	s.now[id{c.Code, c.Subject}] = c
	return !there || c != before
}

// Clear notes that conditions are over: that of a code and a subject.
func (s *Set) Clear(code Code, subject string) {
	if c, there := s.take(id{code, subject}); there && s.over(c) {
		s.logOver(c)
	}
}

// over tells whether that a condition is over is to be logged.
func (s *Set) over(c Condition) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lines.over(id{c.Code, c.Subject})
}

// Track notes whether c is so, with a line at -v=1 only: for what follows from
// other conditions, or only takes its time.
func (s *Set) Track(c Condition, present bool) {
	if present && s.put(c) {
		klog.V(1).InfoS(sentence(c.Message), c.pairs()...)
	}
	if !present {
		s.take(id{c.Code, c.Subject})
	}
}

func (s *Set) take(key id) (Condition, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, there := s.now[key]
	delete(s.now, key)
	return c, there
}

// keptOfACode bounds how many conditions of a code are kept.
const keptOfACode = 100

// Replace notes that these are all conditions of a code. Of very many the first are
// kept, by their subjects, and the number of the others.
func (s *Set) Replace(code Code, all []Condition) {
	list := make(List, len(all))
	for i, c := range all {
		c.Code = code
		list[i] = c.printable()
	}
	list.sort()
	list = slices.CompactFunc(list, func(a, b Condition) bool { return a.More == b.More && a.Subject == b.Subject })
	list = list.Bound(keptOfACode)
	want := make(map[string]bool, len(list))
	var news, over List
	for _, c := range list {
		want[c.Subject] = true
		_, there := s.Find(code, c.Subject)
		changed := s.put(c) && (c.More == 0 || !there) // that their number changes is no news
		if s.due(c, changed) {
			news = append(news, c)
		}
	}
	for _, c := range s.of(code) {
		if !want[c.Subject] {
			s.take(id{code, c.Subject})
			if s.over(c) {
				over = append(over, c)
			}
		}
	}
	s.logAll(over, s.logOver, "More conditions like these are over")
	s.logAll(news, s.logNew, "There are more conditions like these")
}

// of are the conditions of a code.
func (s *Set) of(code Code) (out List) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, c := range s.now {
		if key.code == code {
			out = append(out, c)
		}
	}
	return out
}

// List is a copy of all.
func (s *Set) List() List {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := List(slices.AppendSeq([]Condition{}, maps.Values(s.now)))
	out.sort()
	return out
}

// Find returns a condition of a code.
func (s *Set) Find(code Code, subject string) (Condition, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, there := s.now[id{code, subject}]
	return c, there
}

// logAll logs the first of many, and how many more there are.
func (s *Set) logAll(all List, log func(Condition), more string) {
	all.sort()
	for i, c := range all {
		if i == linesAtOnce {
			klog.InfoS(more, "condition", c.Code, "count", len(all)-i)
			s.note(fmt.Sprintf("%s: %s, %d", more, c.Code, len(all)-i))
			return
		}
		log(c)
	}
}

func (s *Set) logNew(c Condition) {
	klog.ErrorS(nil, sentence(c.Message), c.pairs()...)
	s.note(c.Text())
}

func (s *Set) logOver(c Condition) {
	klog.InfoS(
		"Condition is over", "condition", c.Code, "message", c.Text(), "lasted",
		time.Since(c.Since).Round(100*time.Millisecond),
	)
	s.note("over: " + c.Text())
}

func (s *Set) note(text string) {
	if s.Note != nil {
		s.Note(text)
	}
}

// pairs are the keys and values of a log line.
func (c Condition) pairs() []any {
	out := []any{"condition", c.Code, "severity", c.Code.Severity()}
	if c.Subject != "" && !strings.Contains(c.Message, c.Subject) {
		out = append(out, "subject", c.Subject)
	}
	if c.Cause != "" {
		out = append(out, "cause", c.Cause)
	}
	return out
}

// sentence begins a phrase with a capital, as log lines do. A name stays as it is.
func sentence(phrase string) string {
	word, _, _ := strings.Cut(phrase, " ")
	if word == "" || strings.ContainsAny(word, "./_-0123456789") {
		return phrase
	}
	return strings.ToUpper(phrase[:1]) + phrase[1:]
}
