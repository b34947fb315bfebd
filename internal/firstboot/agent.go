package firstboot

import "github.com/qnet-vm/qnet/internal/agent"

// agentScript is the guest's end of package agent. It waits for the port, whose driver may be
// a module, and reads lines until the host closes the other end.
const agentScript = `port=/dev/virtio-ports/` + agent.Port + `
n=0
until [ -e $port ]; do
	[ $((n += 1)) -gt 60 ] && exit 0
	sleep 1
done
exec 3<>$port
while read -r id script <&3; do
	said=$(echo "$script" | base64 -d | sh 2>/dev/null 3>&-)
	status=$?
	[ -z "$said" ] || said=$(printf %.300s "$said" | base64 -w 0)
	echo "$id $status $said" >&3
done
`

// agent returns the command that starts the guest's end of the agent at each boot, beside it:
// systemd starts the service when its own basic units are up.
func (s Settings) agent() []string {
	return []string{"sh", "-c", `[ -d /run/systemd/system ] || exit 0
systemctl is-active -q qnet-agent && exit 0
systemd-run -q --no-block --unit=qnet-agent --description="things that the host asks for" sh -c "$1"`, "qnet-agent", agentScript}
}
