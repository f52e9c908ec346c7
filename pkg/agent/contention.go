package agent

import (
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/kernel"
	"flanneld/pkg/printable"
)

// objectsToName bounds what a contention of many objects says.
const objectsToName = 3

// setContention keeps the condition for what another program undoes again and
// again, and returns when to look again.
func (a *Agent) setContention(c kernel.Contention) time.Duration {
	if len(c.Objects) == 0 {
		a.Conditions.Clear(condition.KernelContention, "")
		return resync
	}
	a.Conditions.Set(condition.Condition{
		Code: condition.KernelContention,
		Message: "another program undoes flanneld's work in the kernel again and again: " +
			"find it and let it leave flanneld's routes and devices alone (the log has the last repairs); until then " +
			"repairs of this come ever later, up to a minute, and all else is repaired at once",
		Cause: printable.Some(c.Objects, objectsToName, "; ", "; and"),
	})
	return c.Again
}
