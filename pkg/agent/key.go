package agent

import "flanneld/pkg/subnet"

// publicKey is that of the private one, where a config asks for WireGuard. Empty: nobody needs it, or it
// cannot be read, which the backend says that reads it again.
func (a *Agent) publicKey(config subnet.Entry) string {
	if a.PrivateKey == nil {
		return ""
	}
	c, err := a.parsed.parse(config.Value)
	if err != nil || c.BackendType != "wireguard" {
		return ""
	}
	secret, err := a.PrivateKey()
	if err != nil {
		return ""
	}
	return secret.Public().String()
}
