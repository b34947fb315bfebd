package warm

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/internal/agent"
	"github.com/qnet-vm/qnet/internal/firstboot"
	"github.com/qnet-vm/qnet/profiles"
)

const (
	// BootTime is how long a first boot may take: packages may be downloaded.
	BootTime = time.Hour
	// settleTime bounds the calm after that.
	settleTime = 5 * time.Minute
	// nameTime is how long a guest may take to become a clone.
	nameTime = 2 * time.Minute
)

// errNoAgent tells that nothing can be asked of the guest.
var errNoAgent = errors.New("its guest has no agent")

// AwaitBoot waits for the end of a guest's first boot. The error says what failed in it.
func AwaitBoot(ctx context.Context, a *agent.Conn) error {
	if a == nil {
		return errNoAgent
	}
	ctx, cancel := context.WithTimeoutCause(ctx, BootTime, fmt.Errorf("it has not ended after %s", BootTime))
	defer cancel()
	if err := a.Run(ctx, bootScript); err != nil {
		return fmt.Errorf("first boot: %w", said(err))
	}
	return nil
}

// said returns what a guest says in place of that its script failed.
func said(err error) error {
	if status, ok := errors.AsType[*agent.StatusError](err); ok && status.Said != "" {
		return errors.New(status.Said)
	}
	return err
}

// bootScript ends with the first boot; 2 is cloud-init's status of one with warnings. The wait
// for systemd is for what else starts: it may have failed units of its own.
var bootScript = `export LC_ALL=C
cloud-init status --wait >/dev/null 2>&1
while [ -d /run/cloud-init ] && [ ! -e /run/cloud-init/result.json ]; do sleep 1; done
cloud-init status >/dev/null 2>&1
case $? in 0|2) ;; *)
	text=$(cloud-init status --long 2>&1)
	modules=$(echo "$text" | grep -o "('[a-z_-]*', ")
	[ -n "$modules" ] && ! echo "$modules" | grep -qvE "'(` + strings.ReplaceAll(strings.Join(firstboot.Unasked, "|"), "-", "[-_]") + `)'" || { echo "$text"; exit 1; }
	;;
esac
timeout 120 systemctl is-system-running --wait >/dev/null 2>&1
exit 0
`

// Settle has a guest give up what it has by its network, and prepares it to be told who it is.
// Its cables are pulled.
func Settle(ctx context.Context, a *agent.Conn, p *profiles.Profile) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if err := a.Run(ctx, settleScript(links(p))); err != nil {
		return fmt.Errorf("prepare the guest for its clones: %w", said(err))
	}
	return nil
}

// links are the names that the seed gives to a guest's links.
func links(p *profiles.Profile) (names []string) {
	for i, n := range p.NICs {
		if n.Mode != profiles.None {
			names = append(names, firstboot.LinkName(i))
		}
	}
	return names
}

// waits is the file in the guest that says that it waits to be told who it is, and by which
// service it configures its links.
const waits = "/run/qnet-waits"

// settleScript stops the service of the links, and forgets what it has learnt.
func settleScript(links []string) string {
	return `no() { echo "$1"; exit 1; }
for link in ` + strings.Join(links, " ") + `; do
	[ -e /sys/class/net/$link ] || no "it has no link $link, by which it could be told its address"
done
command -v perl >/dev/null || command -v python3 >/dev/null || no "it has neither perl nor python3, by which it could get a random seed of its own"
service=
for s in systemd-networkd NetworkManager networking; do
	[ -n "$service" ] || ! systemctl is-active -q $s || service=$s
done
[ -n "$service" ] || no "its links are configured by none of systemd-networkd, NetworkManager and ifupdown"
systemctl stop systemd-networkd.socket 2>/dev/null
systemctl stop $service || no "its service $service does not stop"
for link in ` + strings.Join(links, " ") + `; do
	ip addr flush dev $link
	ip link set dev $link down
done
rm -f /var/lib/dhcp/*.leases /var/lib/dhclient/*.leases /var/lib/NetworkManager/*.lease /var/lib/NetworkManager/secret_key
rm -f /run/systemd/netif/leases/* /run/systemd/netif/links/* /var/lib/systemd/random-seed
rm -f /boot/loader/random-seed /boot/efi/loader/random-seed /efi/loader/random-seed
echo $service > ` + waits + `
sync
exit 0
`
}

// Identity is what is a clone's own.
type Identity struct {
	Settings firstboot.Settings // of its first boot
	Was      string             // the host name until now
	Now      time.Time

	machineID string
	entropy   []byte
}

// Name tells a guest that was booted for others who it is. It refuses a second time.
func Name(ctx context.Context, a *agent.Conn, id Identity) error {
	if a == nil {
		return errNoAgent
	}
	id.entropy = make([]byte, 64)
	random := make([]byte, 16)
	rand.Read(id.entropy) // which never fails
	rand.Read(random)
	random[6], random[8] = random[6]&0x0f|0x40, random[8]&0x3f|0x80 // a UUID of version 4 (machine-id(5))
	id.machineID = hex.EncodeToString(random)
	ctx, cancel := context.WithTimeout(ctx, nameTime)
	defer cancel()
	if err := a.Run(ctx, id.script()); err != nil {
		return fmt.Errorf("tell the guest who it is: %w", said(err))
	}
	return nil
}
