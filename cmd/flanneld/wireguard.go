package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"flanneld/internal/cli"
	"flanneld/pkg/wgdevice"
)

func (p *program) wireguardCommand() *cobra.Command {
	const choice = "rotate"
	return newGroup(&cobra.Command{Use: "wireguard", Short: "this host's key of the wireguard backend: " + choice}, choice,
		p.newCommand(&cobra.Command{
			Use:   "rotate",
			Short: "give this host a new private key",
			Long: `A running daemon takes it up at once, and tells its peers. Packets wait for some
milliseconds meanwhile. To remove the file does the same. The public key is
printed; the private one never is.`,
			Example: `  # on each host in turn
  flanneld wireguard rotate
  # the key of a daemon that keeps it elsewhere
  flanneld wireguard rotate --wireguard-key-file=/etc/flannel/wgkey`,
		}, func(c *call) []cli.Topic { return []cli.Topic{keyTopic(&c.options)} }, 0, rotateKey),
	)
}

func keyTopic(o *options) cli.Topic {
	return newTopic("wireguard", newFlag(keyFileFlag, "FILE", "/run/flannel/wgkey",
		"this host's private key, which is made where it is not there", cli.Into(&o.WireGuardKeyFile, cli.NotEmpty)))
}

func rotateKey(_ context.Context, c *call) error {
	c.options.takeKeyFile(c.env, c.told)
	key, err := wgdevice.Rotate(c.options.WireGuardKeyFile)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.stdout, key)
	return err
}

// keyFileVariable is flannel's name for the key's file.
const keyFileVariable = "WIREGUARD_KEY_FILE"

// takeKeyFile goes by it where nothing else is told.
func (o *options) takeKeyFile(env func(string) (string, bool), told func(flag string) bool) {
	if file, _ := env(keyFileVariable); file != "" && !told(keyFileFlag) {
		o.WireGuardKeyFile = file
	}
}
