package rules

// Outcome is what a pass did to one chain or table.
type Outcome struct {
	Subject string // "iptables nat POSTROUTING"
	Drift   string // how it differed from what is wanted, and was repaired; "" if it did not
	Err     error
}

// Result is the result of a pass over all rules of one program.
type Result struct {
	Outcomes []Outcome
	Rules    []string // the wanted rules, for operators to read
	// Marks means that rules of this program match packets from peers by
	// PeerMark, or set it. Otherwise the rules do not depend on which peers there
	// are.
	Marks bool
}
