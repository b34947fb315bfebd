package cli

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab/guest"
)

// fetch gets a page of a guest of the test's own.
func fetch(url string) ([]byte, error) {
	client := &http.Client{Timeout: 20 * time.Second}
	answer, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.New(answer.Status)
	}
	return b, err
}

// fetch gets a page that is there.
func (l *testHost) fetch(url string) []byte {
	l.Helper()
	b, err := fetch(url)
	if err != nil {
		l.Fatalf("%s: %v", url, err)
	}
	return b
}

// ignitionConfig is the part of Ignition's configuration specification 3.3.0 that the test reads.
type ignitionConfig struct {
	Ignition struct{ Version string }
	Passwd   struct {
		Users []struct {
			Name              string
			SSHAuthorizedKeys []string
		}
	}
	Storage struct {
		Files []struct {
			Path     string
			Contents struct{ Source string }
		}
	}
}

// A guest reads its Ignition config where Ignition does, whole: what the profile's own file
// says, and what qnet adds. It gets neither cloud-init's volume nor systemd's credentials.
func TestIgnitionByFirmware(t *testing.T) {
	inLab(t, func(l *testHost) {
		long := "data:," + strings.Repeat("0123456789abcdef", 4000)
		config := `{"ignition":{"version":"3.3.0"},"passwd":{"users":[{"name":"core","sshAuthorizedKeys":["ssh-ed25519 AAAA theirs"]}]},
			"storage":{"files":[{"path":"/etc/long","contents":{"source":"` + long + `"}}]}}`
		if err := os.WriteFile(filepath.Join(l.dir, "coreos.ign"), []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
		// Ignition's own place: internal/providers/qemu/qemu_fwcfg.go of coreos/ignition.
		script := guest.Script(`cat /sys/firmware/qemu_fw_cfg/by_name/opt/com.coreos/config/raw > /www/config.ign
ls /sys/block /sys/firmware/dmi/entries > /www/rest; httpd -p 80 -h /www`)
		path := l.profile("web", vm(l, "web", "qnet.net0=dhcp "+script)+"[guest]\nuser_data = \"coreos.ign\"\n[[nic]]\nmode = \"nat\"\n")
		l.must("run", "-d", path)
		l.must("wait", "--for", "port:80", "--timeout", bootTime.String(), "web")
		url := "http://" + strings.TrimSpace(l.must("ip", "web"))

		var got ignitionConfig
		if err := json.Unmarshal(l.fetch(url+"/config.ign"), &got); err != nil { // also of more or less bytes
			t.Fatal(err)
		}
		users := got.Passwd.Users
		if got.Ignition.Version != "3.3.0" || len(users) != 1 || users[0].Name != "core" || len(users[0].SSHAuthorizedKeys) < 2 || users[0].SSHAuthorizedKeys[0] != "ssh-ed25519 AAAA theirs" {
			t.Errorf("got %+v", got.Passwd)
		}
		files := map[string]string{}
		for _, f := range got.Storage.Files {
			files[f.Path] = f.Contents.Source
		}
		if files["/etc/long"] != long || files["/etc/hostname"] == "" || files["/etc/ssh/ssh_host_ed25519_key"] == "" {
			t.Errorf("%d files, of which one should have %d bytes and has %d", len(files), len(long), len(files["/etc/long"]))
		}
		if rest := string(l.fetch(url + "/rest")); strings.Contains(rest, "vd") || strings.Contains(rest, "11-") {
			t.Errorf("besides, the guest has %q", rest)
		}
		l.must("stop", "--force", "web")
	})
}
