package sshclient

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestArguments(t *testing.T) {
	s := Session{VM: "web", Address: netip.MustParseAddr("10.0.0.9"), Login: "root", Command: []string{"uname", "-r"}}
	got := strings.Join(s.arguments("/k"), " ")
	want := "-o UserKnownHostsFile=/k -o StrictHostKeyChecking=accept-new -o HostKeyAlias=web.qnet -l root -- 10.0.0.9 uname -r"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	s.Login, s.Command = "", nil
	if got := strings.Join(s.arguments("/k"), " "); !strings.HasSuffix(got, "HostKeyAlias=web.qnet -- 10.0.0.9") {
		t.Errorf("got %q", got)
	}
}

func TestCommandKeepsHostKeysInTheStateDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	cmd, err := Command("/usr/bin/ssh", nil, dir, Session{VM: "web", Address: netip.MustParseAddr("10.0.0.9")})
	if err != nil {
		t.Fatal(err)
	}
	if cmd.Path != "/usr/bin/ssh" || !strings.Contains(cmd.String(), "UserKnownHostsFile="+dir+"/known_hosts") || cmd.SysProcAttr != nil {
		t.Errorf("got %s", cmd)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", info, err)
	}
}
