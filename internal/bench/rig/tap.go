package rig

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/qnet-vm/qnet/internal/vmuser"
)

// NIC returns QEMU's arguments for one more NIC.
func NIC(i int, mac, backend string) []string {
	return []string{
		"-netdev", backend,
		"-device", fmt.Sprintf(`{"driver":"virtio-net-pci","addr":"0x%x","netdev":"net%d","mac":%q,"romfile":""}`, 0x10+i, i, mac),
	}
}

// HandMade returns the arguments for a NIC on a tap of RecipeTap.
func HandMade(tap, mac string) []string {
	return NIC(1, mac, fmt.Sprintf(`{"type":"tap","id":"net1","ifname":%q,"script":"no","downscript":"no"}`, tap))
}

// OpenTun lets all users open /dev/net/tun until restore, as udev does: QEMU runs as
// a user of its VM's own, and opens the hand-made taps itself.
func (r *Rig) OpenTun() (restore func(), err error) {
	dir := filepath.Join(r.Dir, "dev")
	err = Sh("mkdir -p " + dir + "; mount -t tmpfs tmpfs " + dir + "; mknod -m 666 " + dir + "/tun c 10 200; mount --bind " + dir + "/tun /dev/net/tun; umount -l " + dir)
	return func() { Sh("umount /dev/net/tun") }, err
}

// RecipeTap makes a tap for a VM by the recipe, and the bridge with the first tap. stop
// removes them.
func (r *Rig) RecipeTap(tap, vm string, first bool) (stop func(), err error) {
	args := r.recipeArgs("nat", tap, first, "sh", "-c", "echo ready; read end")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), fmt.Sprint("TAP_OPTIONS=user ", vmuser.Credential(nil, vm).UID))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		in.Close() // ends the command that stands for QEMU
		cmd.Wait() // stderr says more
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready"))); err != nil {
		stop()
		return nil, fmt.Errorf("recipe: %w", err)
	}
	return stop, nil
}
