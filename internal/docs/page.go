// Package docs reads the project's pages, so that tests can run what they tell readers
// to type.
//
// A fenced block is a [Block]. What tests need to know of it beyond its language stands
// in an HTML comment on the line before, which readers do not see:
//
//	<!-- file: /etc/flanneld.env -->      the block is that file's content
//	<!-- on: hdss7-21 -->                 it is for that host alone
//	<!-- not run: needs a real cloud -->  no test runs it, and why
//	<!-- run by: .ci/run -->              that script does
package docs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
)

// Page is a Markdown file of the repository.
type Page struct {
	Name     string // "docs/docker.md"
	Headings []Heading
	Blocks   []Block
	Links    []Link
	Code     []Code // in the text, between backquotes
}

// Heading is a title of a chapter.
type Heading struct {
	Level int
	Text  string
	ID    string // what a link to it ends with
}

// Block is what stands between two fences.
type Block struct {
	Line    int    // of its first line, from 1
	Lang    string // sh, console, …
	Text    string
	Heading string            // the ID of the chapter that it is in
	Notes   map[string]string // what the comment before it says: "file", "on", …
}

// Link is a link or a picture.
type Link struct {
	Line   int
	Target string
}

// Code is a piece of code within the text.
type Code struct {
	Line int
	Text string
}

// Runs reports whether a reader types what the block says.
func (b Block) Runs() bool { return b.Lang == "sh" && b.Notes["file"] == "" || b.Lang == "console" }

// Read reads a page of the repository whose topmost folder is root.
func Read(root, name string) (*Page, error) {
	source, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		return nil, err
	}
	p, err := parse(source)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p.Name = name
	return p, nil
}

func parse(source []byte) (*Page, error) {
	p, ids := &Page{}, map[string]int{}
	line := func(n ast.Node) int {
		for ; n != nil; n = n.Parent() {
			if n.Type() == ast.TypeBlock && n.Lines().Len() > 0 {
				return 1 + bytes.Count(source[:n.Lines().At(0).Start], []byte("\n"))
			}
		}
		return 0
	}
	root := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser().Parse(text.NewReader(source))
	return p, ast.Walk(root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			h := Heading{Level: n.Level, Text: plain(n, source)}
			h.ID = anchor(h.Text)
			if ids[h.ID]++; ids[h.ID] > 1 {
				h.ID = fmt.Sprintf("%s-%d", h.ID, ids[h.ID]-1)
			}
			p.Headings = append(p.Headings, h)
		case *ast.FencedCodeBlock:
			b := Block{Line: line(n), Lang: string(n.Language(source)), Notes: notes(n, source)}
			b.Text = string(n.Lines().Value(source))
			if len(p.Headings) > 0 {
				b.Heading = p.Headings[len(p.Headings)-1].ID
			}
			p.Blocks = append(p.Blocks, b)
		case *ast.Link:
			p.Links = append(p.Links, Link{line(n), string(n.Destination)})
		case *ast.Image:
			p.Links = append(p.Links, Link{line(n), string(n.Destination)})
		case *ast.CodeSpan:
			p.Code = append(p.Code, Code{line(n), plain(n, source)})
		case *ast.CodeBlock:
			return ast.WalkStop, fmt.Errorf("line %d: a block without a fence", line(n))
		}
		return ast.WalkContinue, nil
	})
}

// notes reads the comments that stand right before a block.
func notes(n ast.Node, source []byte) map[string]string {
	found := map[string]string{}
	for before := n.PreviousSibling(); before != nil; before = before.PreviousSibling() {
		html, ok := before.(*ast.HTMLBlock)
		if !ok {
			break
		}
		all := string(html.Lines().Value(source))
		if html.HasClosure() {
			all += string(html.ClosureLine.Value(source))
		}
		for _, comment := range strings.Split(all, "-->") {
			_, comment, _ = strings.Cut(comment, "<!--")
			if key, value, ok := strings.Cut(strings.TrimSpace(comment), ":"); ok {
				found[key] = strings.TrimSpace(value)
			}
		}
	}
	return found
}

// plain is a node's text without its marks.
func plain(n ast.Node, source []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if t, ok := n.(*ast.Text); ok && entering {
			b.Write(t.Segment.Value(source))
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

// anchor is a heading's ID as code hosts make it: lower case, without punctuation, a
// dash for each space.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsMark(r):
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}
