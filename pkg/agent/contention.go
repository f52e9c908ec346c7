package agent

import (
	"fmt"
	"strings"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/kernel"
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
	what := strings.Join(c.Objects[:min(objectsToName, len(c.Objects))], "; ")
	if more := len(c.Objects) - objectsToName; more > 0 {
		what += fmt.Sprintf("; and %d more", more)
	}
	a.Conditions.Set(condition.Condition{
		Code: condition.KernelContention,
		Message: "another program undoes flanneld's work in the kernel again and again: " +
			"find it and let it leave flanneld's routes and devices alone (the log has the last repairs); until then " +
			"repairs of this come ever later, up to a minute, and all else is repaired at once",
		Cause: what,
	})
	return c.Again
}
