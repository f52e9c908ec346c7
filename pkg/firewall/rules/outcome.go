package rules

// Outcome is what was done to one chain or table.
type Outcome struct {
	Subject string // "iptables nat POSTROUTING"
	Wrong   string // what was put right; "" for nothing
	Err     error
}
