// Package health tells others how the daemon is: /healthz and its like over
// HTTP, and the service manager's protocol (sd_notify), with the descriptors that it keeps.
package health
