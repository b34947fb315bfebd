package firstboot

import (
	"cmp"
	"slices"

	"github.com/qnet-vm/qnet/internal/sshkey"
)

// mergeHow has cloud-init add our lists to the user's, and leave the user's values as they
// are (cloudinit/mergers).
const mergeHow = "dict(no_replace,recurse_list)+list(append)+str()"

// cloudConfig is qnet's part of the user data, with keys of cloud-init's modules.
type cloudConfig struct {
	MergeHow string `json:"merge_how,omitempty"`

	// User changes the image's default account, so that it keeps the shell and the groups
	// that suit the image.
	User        *account  `json:"user,omitempty"`
	Users       []any     `json:"users"`
	DisableRoot *bool     `json:"disable_root,omitempty"`
	Passwords   *chpasswd `json:"chpasswd,omitempty"`

	Keys           []string          `json:"ssh_authorized_keys"`
	HostKeys       map[string]string `json:"ssh_keys,omitempty"`
	SSH            map[string]bool   `json:"ssh"`
	NoFingerprints bool              `json:"no_ssh_fingerprints"`
	EtcHosts       string            `json:"manage_etc_hosts"`
	Timezone       string            `json:"timezone,omitempty"`
	Locale         string            `json:"locale,omitempty"`
	UpdatePackages bool              `json:"package_update,omitempty"`
	Packages       []string          `json:"packages,omitempty"`
	EachBoot       [][]string        `json:"bootcmd,omitempty"`
	AtTheEnd       []string          `json:"runcmd,omitempty"`
}

// account is the user that is made.
type account struct {
	Name     string   `json:"name"`
	Gecos    string   `json:"gecos,omitempty"`
	Sudo     string   `json:"sudo,omitempty"`
	Password string   `json:"hashed_passwd,omitempty"`
	Lock     *bool    `json:"lock_passwd,omitempty"`
	Keys     []string `json:"ssh_authorized_keys,omitempty"`
}

// chpasswd sets the password of an account that is there.
type chpasswd struct {
	Expire bool       `json:"expire"`
	Users  []password `json:"users"`
}

type password struct {
	Name     string `json:"name"`
	Password string `json:"password"`
	Type     string `json:"type"`
}

// imagesLocale has cloud-init leave the locale as it is. Without a word it sets the
// distribution's usual one, which many images cannot generate; its module fails there
// (cloudinit/config/cc_locale.py).
const imagesLocale = "false"

// keys returns all keys that may log in.
func (s Settings) keys() []string {
	if s.OwnKey == "" {
		return s.Keys
	}
	return sshkey.Merge(slices.Clone(s.Keys), s.OwnKey)
}

// cloudConfig decides qnet's part; merged says that the user has one, too.
func (s Settings) cloudConfig(merged bool) cloudConfig {
	c := cloudConfig{
		Keys: s.keys(), HostKeys: map[string]string{}, SSH: map[string]bool{"emit_keys_to_console": false}, NoFingerprints: true,
		EtcHosts: "localhost", Timezone: s.Timezone, Locale: cmp.Or(s.Locale, imagesLocale), UpdatePackages: len(s.Packages) > 0, Packages: s.Packages,
	}
	if merged {
		c.MergeHow = mergeHow
	}
	s.logins(&c)
	for _, k := range s.HostKeys {
		c.HostKeys[KeyName(k)+"_private"], c.HostKeys[KeyName(k)+"_public"] = k.Private, k.Public
	}
	if len(s.Run) > 0 {
		// One shell runs all of them. Without -e it would go on after a failure, and end with
		// the result of the last one.
		c.AtTheEnd = append([]string{"set -e"}, s.Run...)
	}
	c.EachBoot = append(s.mounts(), s.console(), s.agent())
	return c
}

// logins decides the account. An account's own line of sudoers, in place of the image's,
// asks for no password.
func (s Settings) logins(c *cloudConfig) {
	no := false
	if s.User == Root {
		c.Users = []any{account{Name: Root, Keys: c.Keys}}
		c.DisableRoot = &no
		if s.Password != "" {
			c.Passwords = &chpasswd{Users: []password{{Root, s.Password, "hash"}}}
		}
		return
	}
	c.Users = []any{"default"}
	c.User = &account{Name: s.User, Gecos: s.User, Sudo: "ALL=(ALL) NOPASSWD:ALL", Password: s.Password}
	if s.Password != "" {
		c.User.Lock = &no
	}
}

// mounts returns the commands that mount the shared folders.
func (s Settings) mounts() [][]string {
	var list [][]string
	for _, m := range s.Mounts {
		options := "rw"
		if m.ReadOnly {
			options = "ro"
		}
		list = append(list, []string{
			"sh", "-c", `mkdir -p "$2" && { mountpoint -q "$2" || mount -t virtiofs -o "$3" "$1" "$2"; }`,
			"qnet", m.Tag, m.Path, options,
		})
	}
	return list
}

// console returns the command that logs the user in on the serial console, once for each
// instance. Only who started the VM gets to that console. The login waits for cloud-init,
// which makes the account: systemd starts it behind systemd-user-sessions.service.
func (s Settings) console() []string {
	return []string{"cloud-init-per", "instance", "qnet-console", "sh", "-c", `[ -d /run/systemd/system ] || exit 0
d=/etc/systemd/system/serial-getty@ttyS0.service.d
mkdir -p $d
printf '[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin %s --keep-baud 115200,57600,38400,9600 - $TERM\n' "$1" > $d/qnet.conf
systemctl daemon-reload`, "qnet", s.User}
}
