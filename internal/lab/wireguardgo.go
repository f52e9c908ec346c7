package lab

import (
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
	"golang.zx2c4.com/wireguard/tun"
)

// WireGuardGo makes a device as the program wireguard-go does, in the calling process and its
// network namespace. It is configured by IpcSetOperation, or by those whom ServeWireGuardGo lets in.
func WireGuardGo(name string, mtu int) (*device.Device, error) {
	t, err := tun.CreateTUN(name, mtu)
	if err != nil {
		return nil, err
	}
	return device.NewDevice(t, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, "")), nil
}

// ServeWireGuardGo lets wg(8) and wgctrl at the device as long as the process lives, by the socket of
// that name.
func ServeWireGuardGo(d *device.Device, name string) error {
	file, err := ipc.UAPIOpen(name)
	if err != nil {
		return err
	}
	socket, err := ipc.UAPIListen(name, file)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := socket.Accept()
			if err != nil {
				return
			}
			go d.IpcHandle(c)
		}
	}()
	return nil
}
