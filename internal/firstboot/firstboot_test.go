package firstboot

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/sshkey"
	"github.com/qnet-vm/qnet/profiles"
)

func settings() Settings {
	return Settings{
		User: "me", Hostname: "web", Keys: []string{"ssh-ed25519 AAAA me"}, Found: true, OwnKey: "ssh-ed25519 BBBB qnet",
		HostKeys: []sshkey.Pair{
			{Private: "PRIVATE-ED", Public: sshkey.Ed25519 + " CCCC"},
			{Private: "PRIVATE-EC", Public: sshkey.ECDSA + " DDDD"},
		},
		Password: "$6$salt$hash", Packages: []string{"git"}, Run: []string{"true"},
		NICs: []NIC{{"52:54:00:00:00:01", profiles.NAT, false}},
	}
}

func seedOf(t *testing.T, s Settings) Seed {
	t.Helper()
	seed, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	return seed
}

func document(t *testing.T, s Seed, name string) string {
	t.Helper()
	for _, d := range s.Documents {
		if d.Name == name {
			return d.Text
		}
	}
	t.Fatalf("no document %s", name)
	return ""
}

// config returns qnet's cloud-config as an object.
func config(t *testing.T, s Settings) map[string]any {
	t.Helper()
	text, ok := strings.CutPrefix(document(t, seedOf(t, s), "user-data"), "#cloud-config\n")
	var c map[string]any
	if err := json.Unmarshal([]byte(text), &c); err != nil || !ok {
		t.Fatalf("%v in %s", err, text)
	}
	return c
}

// The first boot is done again for what changes the guest, and for nothing else.
func TestInstanceID(t *testing.T) {
	first := settings().InstanceID()
	for name, c := range map[string]struct {
		change func(*Settings)
		same   bool
	}{
		"nothing":      {func(*Settings) {}, true},
		"found-keys":   {func(s *Settings) { s.Keys = append(s.Keys, "ssh-rsa EEEE other") }, true},
		"shares":       {func(s *Settings) { s.Mounts = []Mount{{Tag: "s", Path: "/src"}} }, true},
		"named-keys":   {func(s *Settings) { s.Found = false }, false},
		"run":          {func(s *Settings) { s.Run = []string{"false"} }, false},
		"user":         {func(s *Settings) { s.User = "you" }, false},
		"own-key":      {func(s *Settings) { s.OwnKey = "ssh-ed25519 FFFF" }, false},
		"host-keys":    {func(s *Settings) { s.HostKeys = s.HostKeys[:1] }, false},
		"user-data":    {func(s *Settings) { s.UserData.Text = "#!/bin/sh" }, false},
		"another-file": {func(s *Settings) { s.UserData.File = "elsewhere" }, true},
		"network":      {func(s *Settings) { s.NICs = append(s.NICs, NIC{"52:54:00:00:00:02", profiles.NAT, false}) }, false},
	} {
		s := settings()
		c.change(&s)
		if id := s.InstanceID(); (id == first) != c.same {
			t.Errorf("%s: %s, before %s", name, id, first)
		}
	}
	if s := settings(); !strings.Contains(document(t, seedOf(t, s), "meta-data"), first) || s.HostKeys[0].Private == "" {
		t.Errorf("meta-data %s", document(t, seedOf(t, s), "meta-data"))
	}
}

// What is shown of a seed has no secret in it, wherever the user put one.
func TestBlanked(t *testing.T) {
	s := settings()
	s.UserData = UserData{"/p/data.yaml", "#cloud-config\npassword: swordfish\n"}
	for _, u := range []string{"me", Root} {
		s.User = u
		seed := seedOf(t, s.Blanked())
		text := strings.Join(seed.Credentials, "\n")
		for _, d := range seed.Documents {
			text += d.Text
		}
		for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune("\n =", r) }) {
			if b, err := base64.StdEncoding.DecodeString(word); err == nil {
				text += string(b)
			}
		}
		for _, hidden := range []string{"PRIVATE-", "$6$salt", "swordfish"} {
			if strings.Contains(text, hidden) {
				t.Errorf("user %s: it shows %s:\n%s", u, hidden, text)
			}
		}
	}
	if s.Blanked().InstanceID() != s.InstanceID() {
		t.Error("the blanked settings have another instance-id")
	}
	if s.HostKeys[0].Private != "PRIVATE-ED" {
		t.Error("the settings themselves were changed")
	}
}

// Each NIC is known by its MAC; private networks have no server to wait for; the first NIC
// is the way out.
func TestNetwork(t *testing.T) {
	s := settings()
	s.NICs = nil
	for i, m := range []profiles.Mode{profiles.None, profiles.Private, profiles.NAT, profiles.User, profiles.Bridge, profiles.HostOnly} {
		s.NICs = append(s.NICs, NIC{"52:54:00:00:00:0" + string(rune('0'+i)), m, m == profiles.NAT})
	}
	var got networkConfig
	if err := json.Unmarshal([]byte(document(t, seedOf(t, s), "network-config")), &got); err != nil {
		t.Fatal(err)
	}
	if _, ok := got.Ethernets["eth0"]; ok || len(got.Ethernets) != 5 || got.Version != 2 {
		t.Errorf("got %+v", got)
	}
	if e := got.Ethernets["eth1"]; e.DHCP4 || !e.Optional {
		t.Errorf("private: %+v", e)
	}
	last := 0.0
	for i, name := range []string{"eth2", "eth3", "eth4", "eth5"} {
		e := got.Ethernets[name]
		metric, _ := e.Overrides["route-metric"].(float64)
		if !e.DHCP4 || e.DHCP6 != (name == "eth2") || metric <= last || e.Match["macaddress"] != s.NICs[i+2].MAC || e.Name != name {
			t.Errorf("%s: %+v", name, e)
		}
		last = metric
	}
}

func TestAccounts(t *testing.T) {
	c := config(t, settings())
	user, _ := c["user"].(map[string]any)
	if user["name"] != "me" || user["hashed_passwd"] != "$6$salt$hash" || user["lock_passwd"] != false || c["disable_root"] != nil {
		t.Errorf("got %v", c)
	}
	keys, _ := c["ssh_authorized_keys"].([]any)
	if !slices.Equal(keys, []any{"ssh-ed25519 AAAA me", "ssh-ed25519 BBBB qnet"}) {
		t.Errorf("keys %v", keys)
	}
	s := settings()
	s.User, s.Password = Root, ""
	c = config(t, s)
	if c["disable_root"] != false || c["user"] != nil || c["chpasswd"] != nil {
		t.Errorf("root: %v", c)
	}
}

// The user's data comes first, with its type, and qnet's after it.
func TestUserData(t *testing.T) {
	for name, c := range map[string]struct{ text, kind string }{
		"cloud-config": {"#cloud-config\npackages: [vim]\n", "text/cloud-config"},
		"script":       {"#!/bin/sh\necho \"é\" " + strings.Repeat("x", 200) + "\n", "text/x-shellscript"},
		"jinja":        {"## template: jinja\n#cloud-config\n{}\n", "text/jinja2"},
		"mime":         {"Content-Type: multipart/mixed; boundary=\"b\"\nMIME-Version: 1.0\n\n--b\nContent-Type: text/x-shellscript\n\n#!/bin/sh\n--b--\n", "multipart/mixed"},
	} {
		s := settings()
		s.UserData = UserData{"f", c.text}
		m, err := mail.ReadMessage(strings.NewReader(document(t, seedOf(t, s), "user-data")))
		if err != nil {
			t.Fatal(err)
		}
		_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
		if err != nil {
			t.Fatal(err)
		}
		r := multipart.NewReader(m.Body, params["boundary"])
		var kinds, texts []string
		for p, err := r.NextPart(); err == nil; p, err = r.NextPart() {
			kind, _, _ := mime.ParseMediaType(p.Header.Get("Content-Type"))
			var body io.Reader = p
			if p.Header.Get("Content-Transfer-Encoding") == "base64" {
				body = base64.NewDecoder(base64.StdEncoding, p)
			}
			b, err := io.ReadAll(body)
			if err != nil {
				t.Fatal(err)
			}
			kinds, texts = append(kinds, kind), append(texts, string(b))
		}
		if !slices.Equal(kinds, []string{c.kind, "text/cloud-config"}) {
			t.Errorf("%s: parts %q", name, kinds)
		} else if !strings.Contains(texts[1], mergeHow) || name != "mime" && texts[0] != c.text || name == "mime" && !strings.Contains(texts[0], "#!/bin/sh") {
			t.Errorf("%s: %q", name, texts)
		}
	}
}

func TestBadUserData(t *testing.T) {
	for name, u := range map[string]UserData{
		"empty": {"f.yaml", " \n"}, "plain": {"f.yaml", "packages: [git]\n"}, "butane": {"f.bu", "variant: fcos\nversion: 1.5.0\n"},
		"large": {"f.yaml", "#!" + strings.Repeat("x", MaxUserData)}, "no-json": {"f.ign", "{"}, "list": {"f.ign", "[]"}, "null": {"f.ign", "null"},
		"version": {"f.ign", `{"ignition":{"version":"1.0.0"}}`}, "no-version": {"f.ign", `{"ignition":[]}`}, "gzip": {"f.gz", "\x1f\x8b\x08"},
	} {
		s := settings()
		s.UserData, s.Packages, s.Run = u, nil, nil
		_, err := New(s)
		var bad *Mistake
		if !errors.As(err, &bad) || !strings.HasPrefix(err.Error(), "guest.user_data: "+u.File+": ") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// An Ignition config keeps all that it says, and gets keys and the host's name.
func TestIgnition(t *testing.T) {
	s := settings()
	s.User, s.Ignition = IgnitionUser, true
	if _, err := New(s); err == nil || !strings.HasPrefix(err.Error(), "guest.packages: a system with Ignition") {
		t.Errorf("packages: %v", err)
	}
	s.Packages, s.Run = nil, nil
	s.UserData = UserData{"x.ign", `{"ignition":{"version":"3.4.0"},"passwd":{"users":[{"name":"core","sshAuthorizedKeys":["ssh-rsa GGGG"]}]},
		"storage":{"files":[{"path":"/etc/hostname","contents":{"source":"data:,mine"}}],"disks":[1]},"systemd":{"units":[]}}`}
	seed := seedOf(t, s)
	var got struct {
		Passwd struct {
			Users []struct {
				Name              string
				SSHAuthorizedKeys []string
			}
		}
		Storage struct {
			Disks []int
			Files []struct{ Path string }
		}
		Systemd map[string]any
	}
	if err := json.Unmarshal(seed.Ignition, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Passwd.Users) != 1 || len(got.Passwd.Users[0].SSHAuthorizedKeys) != 3 || len(got.Storage.Disks) != 1 || got.Systemd == nil {
		t.Errorf("got %s", seed.Ignition)
	}
	if n := len(got.Storage.Files); n != 5 || got.Storage.Files[0].Path != "/etc/hostname" {
		t.Errorf("%d files in %s", n, seed.Ignition)
	}
	if seed.Documents != nil || seed.Credentials != nil {
		t.Errorf("got %+v", seed)
	}
	s.UserData, s.Ignition = UserData{}, true
	if b := seedOf(t, s).Ignition; !strings.Contains(string(b), "ssh-ed25519 BBBB qnet") || !strings.Contains(string(b), `"version": "3.0.0"`) {
		t.Errorf("without the user's: %s", b)
	}
}
