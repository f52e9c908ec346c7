package subnet

// NoConfig says that there is no config key: where it was looked for, and what is
// there in its place. All who tell it to people use its words.
type NoConfig struct {
	Key     string // the absolute path: "/coreos.com/network/config"; empty: not known
	Where   string // "is not in etcd's v2 store"
	Instead string // what else was found, with what to do about it; empty: nothing
}

func (n NoConfig) String() string {
	text := "there is no config key yet"
	if n.Key != "" {
		text += ": " + n.Key + " " + n.Where
	}
	if n.Instead != "" {
		return text + "; " + n.Instead
	}
	return text + "; write it by: flanneld config set"
}

func (n NoConfig) Error() string { return n.String() }
