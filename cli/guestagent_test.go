package cli

import (
	"strings"
	"testing"
)

// Commands and copies for a VM without a network go to the guest agent. What is missing is named.
func TestExecWithoutANetwork(t *testing.T) {
	inLab(t, func(l *testHost) {
		const none = idle + "[[nic]]\nmode = \"none\"\n"
		l.must("run", "-d", l.profile("plain", none))
		l.refused(exitFailure, []string{"no port for a guest agent", "guest_agent = true in [devices]"}, "exec", "plain", "ls")
		l.must("run", "-d", l.profile("silent", none+"[devices]\nguest_agent = true\n"))
		l.refused(exitFailure, []string{"no guest agent answers", "package qemu-guest-agent"}, "exec", "--timeout", "1s", "silent", "ls")
		l.refused(exitFailure, []string{"no-such"}, "exec", "--agent", "no-such", "ls")
		l.refused(exitFailure, nil, "exec", "silent", strings.Repeat("x", 70000))
		file := l.dir + "/silent.toml"
		l.refused(exitFailure, []string{"no port for a guest agent", "guest_agent = true in [devices]"}, "cp", file, "plain:/tmp/")
		l.refused(exitFailure, []string{"no guest agent answers"}, "cp", "--timeout", "2m", "silent:/etc/hostname", l.dir+"/new")
		l.refused(exitFailure, []string{"not done within 1s"}, "cp", "--timeout", "1s", file, "silent:/tmp/")
		for want, args := range map[string][]string{
			`begins with /, not "file"`: {file, "silent:file"},
			"pack one with tar":         {"-r", file, "silent:/tmp"},
			"leave out --times":         {"-p", file, "silent:/tmp"},
			"leave out me@":             {file, "me@silent:/tmp"},
			"two copies":                {"silent:/etc/hostname", "plain:/tmp"},
		} {
			l.refused(exitUsage, []string{want}, append([]string{"cp", "--agent"}, args...)...)
		}
		if plan := l.must("plan", l.dir+"/silent.toml"); !strings.Contains(plan, "org.qemu.guest_agent.0") {
			t.Errorf("plan:\n%s", plan)
		}
		l.must("stop", "--force", "plain")
		l.must("stop", "--force", "silent")
	})
}
