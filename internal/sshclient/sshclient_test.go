package sshclient

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The arguments are those of ssh, with the VM's name for the host.
func TestParse(t *testing.T) {
	for line, want := range map[string]Request{
		"web":                      {VM: "web"},
		"web.qnet":                 {VM: "web"},
		"admin@web":                {VM: "web", Login: "admin"},
		"a@b@web":                  {VM: "web", Login: "a@b"},
		"-l admin web":             {VM: "web", Login: "admin"},
		"-ladmin web":              {VM: "web", Login: "admin"},
		"--login admin web":        {VM: "web", Login: "admin"},
		"--login=admin web":        {VM: "web", Login: "admin"},
		"web -l admin uname -r":    {VM: "web", Login: "admin", Command: []string{"uname", "-r"}},
		"web -- uname -r":          {VM: "web", Command: []string{"uname", "-r"}},
		"web uname -- -r":          {VM: "web", Command: []string{"uname", "--", "-r"}},
		"web --":                   {VM: "web", Command: []string{}},
		"-- web sftp":              {VM: "web", Command: []string{"sftp"}},
		"-s -- web sftp":           {VM: "web", Options: []string{"-s"}, Command: []string{"sftp"}},
		"-i key -L 1:h:2 web":      {VM: "web", Options: []string{"-i", "key", "-L", "1:h:2"}},
		"-tti key web":             {VM: "web", Options: []string{"-t", "-t", "-i", "key"}},
		"-tikey web":               {VM: "web", Options: []string{"-t", "-i", "key"}},
		"-AvN -J jump web":         {VM: "web", Options: []string{"-A", "-v", "-N", "-J", "jump"}},
		"-p 2222 web":              {VM: "web", Port: "2222", Options: []string{"-p", "2222"}},
		"-p2222 web":               {VM: "web", Port: "2222", Options: []string{"-p", "2222"}},
		"-oPort=2222 web":          {VM: "web", Port: "2222", Options: []string{"-o", "Port=2222"}},
		"-o X=Y web -- ls":         {VM: "web", Options: []string{"-o", "X=Y"}, Command: []string{"ls"}},
		"--timeout 5s web":         {VM: "web", Timeout: 5 * time.Second},
		"web --timeout=5s --print": {VM: "web", Timeout: 5 * time.Second, Print: true},
		"--no-wait web":            {VM: "web", NoWait: true},
		"--print-options web":      {VM: "web", PrintOptions: true},
		"-l u web rsync --server":  {VM: "web", Login: "u", Command: []string{"rsync", "--server"}},
		"--help":                   {Help: true},
		"":                         {},
	} {
		if want.Port == "" {
			want.Port = "22"
		}
		if want.Timeout == 0 {
			want.Timeout = time.Minute
		}
		if got, err := Parse(strings.Fields(line), time.Minute); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v, %v\nwant %+v", line, got, err, want)
		}
	}
	for line, want := range map[string]string{
		"-p": "needs a value", "-Z web": "unknown option -Z", "--colour web": "unknown option --colour", "--timeout soon web": "30s or 2m",
		"--print=x web": "no value", "--login": "needs a value", "web --timeout": "needs a value",
	} {
		if _, err := Parse(strings.Fields(line), time.Minute); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", line, err, want)
		}
	}
}

func TestArguments(t *testing.T) {
	r, err := Parse([]string{"-i", "k", "web", "uname", "-r"}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	s := Session{Request: r, Address: netip.MustParseAddr("10.0.0.9")}
	s.Login = "root"
	const want = "-i k -o HostName=10.0.0.9 -o HostKeyAlias=web.qnet -o UserKnownHostsFile=/k -o StrictHostKeyChecking=accept-new -l root -- 10.0.0.9 uname -r"
	if got := strings.Join(s.Arguments("/k"), " "); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := escape("/a b/%c"); got != `"/a b/%%c"` {
		t.Errorf("escaped: %s", got)
	}
	if cmd := Command("/usr/bin/ssh", nil, "/h", s.Arguments("/k")); cmd.Path != "/usr/bin/ssh" || cmd.SysProcAttr != nil || cmd.Env != nil {
		t.Errorf("got %s", cmd)
	}
}

// Host keys are known as long as the disk that they are on.
func TestHostKeysOfADisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	keys := func(disk string) string {
		t.Helper()
		path, err := Session{Request: Request{VM: "web"}, Disk: disk, StateDir: dir}.Prepare(nil, "")
		if err != nil || path != dir+"/known_hosts.d/web" {
			t.Fatalf("%s, %v", path, err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(b, "web.qnet ssh-ed25519 AAAA\n"...), 0o600); err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if first := keys("inode 1"); strings.Contains(first, "AAAA") {
		t.Errorf("a new VM: %q", first)
	}
	if again := keys("inode 1"); !strings.Contains(again, "AAAA") {
		t.Errorf("the same disk: %q", again)
	}
	if other := keys("inode 12"); strings.Contains(other, "AAAA") {
		t.Errorf("another disk: %q", other)
	}
	if info, err := os.Stat(dir + "/known_hosts.d"); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", info, err)
	}
}

// What ssh says when it did not get in is held back; nothing else is.
func TestRefusals(t *testing.T) {
	for said, why := range map[string]string{
		"u@10.0.0.9: Permission denied (publickey).\r\n":                                          "Permission denied (publickey)",
		"Warning: added.\r\nu@10.0.0.9: Permission denied (publickey,password).\r\n":              "Permission denied (publickey,password)",
		"ssh: connect to host 10.0.0.9 port 22: Connection refused\r\n":                           "Connection refused",
		"kex_exchange_identification: read: Connection reset by peer\r\n":                         "kex_exchange_identification: read: Connection reset by peer",
		"Connection closed by 10.0.0.9 port 22\r\n":                                               "Connection closed by 10.0.0.9 port 22",
		"git@github.com: Permission denied (publickey).\r\n":                                      "",
		"u@10.0.0.99: Permission denied (publickey).\r\n":                                         "",
		"Connection to 10.0.0.9 closed by remote host.\r\n":                                       "",
		"ls: cannot open directory '/root': Permission denied\n":                                  "",
		"@@@\r\nWARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\r\nHost key verification failed": "",
	} {
		var out bytes.Buffer
		e := &Errors{To: &out, Address: netip.MustParseAddr("10.0.0.9")}
		if _, err := e.Write([]byte(said)); err != nil {
			t.Fatal(err)
		}
		if got := e.Refused(); got != why || (out.String() == said) != (why == "") {
			t.Errorf("%q: got %q, passed on %q", said, got, &out)
		}
		e.Flush()
		if out.String() != said || e.ChangedKey() != strings.Contains(said, "CHANGED") || Asks(why) != strings.Contains(said, "password") {
			t.Errorf("%q: at last %q", said, &out)
		}
	}
}
