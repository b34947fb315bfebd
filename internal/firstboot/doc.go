// Package firstboot decides what qnet tells a guest at its first boot: the documents of
// cloud-init's NoCloud, the credentials of systemd, or an Ignition config. It is pure:
// package gather finds keys and files, and package volume makes what QEMU gets of it.
//
// cloud-init does what is said once for each instance-id, which is a hash of the settings
// that matter: the same VM with the same settings has the same one at each boot.
package firstboot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/qnet-vm/qnet/internal/sshkey"
	"github.com/qnet-vm/qnet/profiles"
)

// Unasked are cloud-init's modules that run in every image and carry out nothing that a profile
// says, but for a locale, without which a guest is usable. One that fails is no failed boot.
// Newer cloud-inits write "_" for "-".
var Unasked = []string{"locale", "grub-dpkg", "apt-pipelining", "keys-to-console", "install-hotplug", "final-message"}

// Root is the account that is there already.
const Root = "root"

// Settings are what a guest is set to.
type Settings struct {
	User     string        // account for logins; Root is not made
	Hostname string        //
	Keys     []string      // public keys of the user, as sshkey.Parse returns them
	Found    bool          // Keys are those that were found: others later are no reason to begin anew
	OwnKey   string        // qnet's public key
	HostKeys []sshkey.Pair // of the guest's SSH server
	Password string        // hash by crypt(5); "" = none
	Timezone string        // "" = the image's
	Locale   string        // "" = the image's
	Packages []string
	Run      []string // commands of root's shell
	UserData UserData
	Ignition bool // the image takes Ignition in place of cloud-init
	NICs     []NIC
	Mounts   []Mount

	id string // of the settings that were blanked
}

// NIC is a network card of the guest.
type NIC struct {
	MAC  string // lower case, with colons
	Mode profiles.Mode
	IPv6 bool `json:",omitempty"` // its network has a prefix of IPv6
}

// Mount is a shared folder that the guest mounts at each boot.
type Mount struct {
	Tag, Path string
	ReadOnly  bool
}

// Seed is what the guest gets.
type Seed struct {
	InstanceID  string
	Documents   []Document // for a NoCloud volume; nil = none
	Credentials []string   // of systemd, for SMBIOS type 11; nil = none
	Ignition    []byte     // for fw_cfg; nil = none
}

// Document is a file of the NoCloud volume.
type Document struct{ Name, Text string }

// Label is the label by which cloud-init finds the volume.
const Label = "cidata"

// New makes the seed. The error names what is wrong with the user's own data.
func New(s Settings) (Seed, error) {
	seed := Seed{InstanceID: s.InstanceID()}
	own, err := s.UserData.kind()
	if err != nil {
		return Seed{}, err
	}
	if own == ignitionKind || s.Ignition {
		seed.Ignition, err = s.ignition()
		return seed, err
	}
	userData, err := s.userData()
	if err != nil {
		return Seed{}, err
	}
	seed.Documents = []Document{
		{"meta-data", asJSON(metaData{seed.InstanceID, s.Hostname})},
		{"network-config", asJSON(s.network())},
		{"user-data", userData},
	}
	seed.Credentials = s.credentials()
	return seed, nil
}

// InstanceID returns the hash of what a new first boot is for. Mounts are made at each
// boot, and keys that were found may be others at each run.
func (s Settings) InstanceID() string {
	if s.id != "" {
		return s.id
	}
	s.Mounts, s.UserData.File = nil, ""
	if s.Found {
		s.Keys = nil
	}
	hostKeys := make([]string, len(s.HostKeys))
	for i, k := range s.HostKeys {
		hostKeys[i] = k.Public
	}
	s.HostKeys = nil
	sum := sha256.Sum256([]byte(asJSON(struct {
		Settings
		Public []string
	}{s, hostKeys})))
	return "qnet-" + hex.EncodeToString(sum[:])[:24]
}

// secret stands for what is not shown.
const secret = "(secret)"

// Blanked returns the settings without secrets, to be shown.
func (s Settings) Blanked() Settings {
	s.id = s.InstanceID()
	s.HostKeys = slices.Clone(s.HostKeys)
	for i := range s.HostKeys {
		s.HostKeys[i].Private = secret
	}
	if s.Password != "" {
		s.Password = secret
	}
	if len(s.UserData.Text) > 0 && !s.UserData.isIgnition() {
		s.UserData.Text = fmt.Sprintf("#cloud-config\n# %d bytes of %s, which are not shown\n", len(s.UserData.Text), s.UserData.File)
	}
	return s
}

// metaData is the document of that name.
type metaData struct {
	InstanceID string `json:"instance-id"`
	Hostname   string `json:"local-hostname"`
}

// asJSON encodes a document. JSON is YAML, which cloud-init reads (yaml.org, 1.2, section
// 1.3), and needs no rules for quoting.
func asJSON(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err)) // types of this package, which all can be encoded
	}
	return b.String()
}
