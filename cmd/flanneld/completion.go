package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

func completionVerb() verb {
	return verb{
		name:    "completion",
		args:    "bash",
		summary: "print what completes verbs and flags in a shell",
		examples: []example{
			{"flanneld completion bash > /etc/bash_completion.d/flanneld", "for everybody, from the next login on"},
			{"source <(flanneld completion bash)", "in this shell"},
		},
		topics: func(*verbOptions) []topic { return nil },
		most:   1,
		run: func(_ context.Context, c *call) error {
			if len(c.args) != 1 || c.args[0] != "bash" {
				return exitf(exitUsage, "flanneld completion needs the name of a shell: bash")
			}
			_, err := fmt.Fprint(c.stdout, bashCompletion(verbs()))
			return err
		},
	}
}

// bashCompletion is a script for bash. It takes --flag=value apart as bash does,
// in three words.
func bashCompletion(all []verb) string {
	var o options
	daemon := flagTable(&o)
	etcd := flagWords([]topic{etcdTopic(&o)})
	var b strings.Builder
	b.WriteString(`# bash completion for flanneld; made by: flanneld completion bash

_flanneld() {
	local etcd='ETCD'
	local cur=${COMP_WORDS[COMP_CWORD]} flag='' words=''
	COMPREPLY=()
	if [[ $cur == = ]]; then
		flag=${COMP_WORDS[COMP_CWORD-1]} cur=''
	elif [[ ${COMP_WORDS[COMP_CWORD-1]} == = ]]; then
		flag=${COMP_WORDS[COMP_CWORD-2]}
	else
		flag=${COMP_WORDS[COMP_CWORD-1]}
	fi
	case $flag in
`)
	for _, kind := range valueKinds(all, daemon) {
		fmt.Fprintf(&b, "\t%s)\n\t\t%s\n\t\treturn ;;\n", strings.Join(kind.flags, "|"), kind.complete)
	}
	b.WriteString("\tesac\n\tcase ${COMP_WORDS[1]}' '${COMP_WORDS[2]} in\n")
	for _, v := range all {
		if strings.Contains(v.name, " ") {
			fmt.Fprintf(&b, "\t'%s') (( COMP_CWORD > 2 )) && words=\"%s\" ;;\n", v.name, flagWords(v.topicsWithHelp()))
		}
	}
	b.WriteString("\tesac\n\tif [[ -z $words ]]; then\n\t\tcase ${COMP_WORDS[1]} in\n")
	for _, g := range groups(all) {
		fmt.Fprintf(&b, "\t\t%s) (( COMP_CWORD > 1 )) && words=\"%s\" ;;\n", g.word, g.words)
	}
	fmt.Fprintf(&b, "\t\tesac\n\tfi\n\t[[ -z $words ]] && words=\"%s\"\n\t(( COMP_CWORD == 1 )) && words+=' %s'\n", flagWords(daemon), firstWords(all))
	b.WriteString(`	COMPREPLY=($(compgen -W "$words" -- "$cur"))
	[[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
}
complete -F _flanneld flanneld
`)
	return strings.Replace(strings.ReplaceAll(b.String(), etcd, "$etcd"), "ETCD", etcd, 1)
}

// group is what may follow a first word.
type group struct{ word, words string }

func groups(all []verb) (out []group) {
	for _, v := range all {
		first, second, two := strings.Cut(v.name, " ")
		switch i := slices.IndexFunc(out, func(g group) bool { return g.word == first }); {
		case !two:
			out = append(out, group{first, strings.TrimSpace(v.arguments() + " " + flagWords(v.topicsWithHelp()))})
		case i < 0:
			out = append(out, group{first, second})
		default:
			out[i].words += " " + second
		}
	}
	return out
}

// arguments are those that can be known beforehand.
func (v *verb) arguments() string {
	if v.args == strings.ToLower(v.args) {
		return v.args
	}
	return ""
}

func firstWords(all []verb) string {
	var out []string
	for _, g := range groups(all) {
		out = append(out, g.word)
	}
	return strings.Join(out, " ")
}

func flagWords(topics []topic) string {
	var out []string
	for _, t := range topics {
		for _, e := range t.entries {
			switch {
			case e.name == outputName:
				out = append(out, "-"+e.name)
			case e.isBool():
				out = append(out, "--"+e.name)
			default:
				out = append(out, "--"+e.name+"=")
			}
		}
	}
	return strings.Join(out, " ")
}

// valueKind is flags whose values are completed alike.
type valueKind struct {
	flags    []string
	complete string // a line of bash
}

func valueKinds(all []verb, daemon []topic) []valueKind {
	how := map[string]string{} // line → flags, one after the other
	add := func(topics []topic) {
		for _, t := range topics {
			for _, e := range t.entries {
				if line := e.completion(); line != "" && !slices.Contains(strings.Fields(how[line]), e.dashed()) {
					how[line] += " " + e.dashed()
				}
			}
		}
	}
	add(daemon)
	for _, v := range all {
		add(v.topicsWithHelp())
	}
	var out []valueKind
	for _, line := range slices.Sorted(maps.Keys(how)) {
		out = append(out, valueKind{strings.Fields(how[line]), line})
	}
	return out
}

func (e entry) dashed() string {
	if e.name == outputName {
		return "-" + e.name
	}
	return "--" + e.name
}

// completion is how bash completes a flag's value; "": it has none.
func (e entry) completion() string {
	const reply = `COMPREPLY=($(compgen %s -- "$cur"))`
	switch {
	case e.isBool():
		return ""
	case e.arg == "FILE" || e.arg == "FOLDER":
		return fmt.Sprintf(reply, "-f")
	case e.arg == "IP|NAME":
		return fmt.Sprintf(reply, `-W "$(ls /sys/class/net 2>/dev/null)"`)
	case e.arg == strings.ToLower(e.arg): // the values themselves
		return fmt.Sprintf(reply, "-W '"+strings.ReplaceAll(e.arg, "|", " ")+"'")
	}
	return ": # whatever it may be"
}
