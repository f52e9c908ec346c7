package subnet

import "time"

// Contents is what a Snapshot says, for those who look at the store without
// following it.
type Contents struct {
	Config    Entry             // Modified 0: there is no config key
	NoConfig  NoConfig          // in that case
	Leases    []Lease           // every well-formed one, in the order of their subnets, of one the holder's first
	Entries   map[string]Entry  // by key: those that name a subnet, well-formed or not
	Malformed map[string]string // key → what is wrong with the entry
	Omitted   int               // more keys that mean nothing
}

// Read takes a snapshot apart that was received at now.
func (s Snapshot) Read(now time.Time) Contents {
	r := replica{leases: map[string]Lease{}, malformed: map[string]string{}}
	c := Contents{Config: Entry{Key: ConfigKey}, NoConfig: s.NoConfig, Entries: map[string]Entry{}}
	for _, e := range s.Entries {
		r.put(e, now)
		if e.Key == ConfigKey {
			c.Config = e
		}
	}
	for _, e := range s.Entries {
		if _, err := ParseKey(e.Key); err == nil {
			c.Entries[e.Key] = e
		}
	}
	c.Leases, c.Malformed, c.Omitted = r.all(), r.malformed, s.Omitted
	return c
}
