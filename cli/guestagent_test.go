package cli

import (
	"strings"
	"testing"
)

// A command for a VM without a network goes to the guest agent. What is missing is named.
func TestExecWithoutANetwork(t *testing.T) {
	inLab(t, func(l *testHost) {
		const none = idle + "[[nic]]\nmode = \"none\"\n"
		l.must("run", "-d", l.profile("plain", none))
		l.refused(exitFailure, []string{"no port for a guest agent", "guest_agent = true in [devices]"}, "exec", "plain", "ls")
		l.must("run", "-d", l.profile("silent", none+"[devices]\nguest_agent = true\n"))
		l.refused(exitFailure, []string{"no guest agent answers", "package qemu-guest-agent"}, "exec", "--timeout", "1s", "silent", "ls")
		l.refused(exitFailure, []string{"no-such"}, "exec", "--agent", "no-such", "ls")
		l.refused(exitFailure, nil, "exec", "silent", strings.Repeat("x", 5000))
		if plan := l.must("plan", l.dir+"/silent.toml"); !strings.Contains(plan, "org.qemu.guest_agent.0") {
			t.Errorf("plan:\n%s", plan)
		}
		l.must("stop", "--force", "plain")
		l.must("stop", "--force", "silent")
	})
}
