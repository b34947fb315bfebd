package firstboot

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/qnet-vm/qnet/internal/sshkey"
)

// credentials returns what systemd (252 and newer) takes without cloud-init: root's keys,
// the SSH server's keys, and where root is the user, its password (systemd.system-credentials(7),
// smbios-type-11(7)). Where cloud-init runs, it sets the same keys again.
func (s Settings) credentials() []string {
	var files strings.Builder
	for _, k := range s.HostKeys {
		path := "/etc/ssh/ssh_host_" + KeyName(k) + "_key"
		fmt.Fprintf(&files, "f+~ %s 0600 root root - %s\n", path, encode(k.Private))
		fmt.Fprintf(&files, "f+~ %s.pub 0644 root root - %s\n", path, encode(k.Public+"\n"))
	}
	list := []string{credential("ssh.authorized_keys.root", strings.Join(s.keys(), "\n")+"\n")}
	for _, c := range []struct{ name, value string }{
		{"tmpfiles.extra", files.String()},
		{"system.hostname", s.Hostname},
		{"firstboot.timezone", s.Timezone},
		{"firstboot.locale", s.Locale},
	} {
		if c.value != "" {
			list = append(list, credential(c.name, c.value))
		}
	}
	if s.User == Root && s.Password != "" {
		list = append(list, credential("passwd.hashed-password.root", s.Password))
	}
	return list
}

// credential writes a credential as a string of SMBIOS type 11.
func credential(name, value string) string {
	return "io.systemd.credential.binary:" + name + "=" + encode(value)
}

func encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// KeyName is the name of a host key in cloud-init's keys and in the names of its files.
func KeyName(k sshkey.Pair) string {
	if strings.HasPrefix(k.Public, sshkey.ECDSA+" ") {
		return "ecdsa"
	}
	return "ed25519"
}
