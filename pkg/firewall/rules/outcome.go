package rules

// Outcome is what was done to one chain or table.
type Outcome struct {
	Subject string // "iptables nat POSTROUTING"
	Drift   string // what was put right; "" for nothing
	Err     error
}

// Result is what came of a look at all that one program keeps.
type Result struct {
	Outcomes []Outcome
	Rules    []string // the rules that there shall be, for operators to read
	// Marks says that packets from peers must carry PeerMark, for the rules of
	// this program to know them, or that it marks them. Otherwise it does not
	// matter which peers there are.
	Marks bool
}
