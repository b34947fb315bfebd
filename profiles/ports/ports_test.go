package ports

import (
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"2222:22":                 "127.0.0.1:2222:22 [::1]:2222:22",
		"127.0.0.1:8080:80":       "127.0.0.1:8080:80",
		"192.0.2.10:8080:80/tcp":  "192.0.2.10:8080:80",
		"[::1]:8443:443":          "[::1]:8443:443",
		"[2001:DB8:0::1]:1:65535": "[2001:db8::1]:1:65535",
		"0.0.0.0:80:80":           "0.0.0.0:80:80",
		"[::]:80:80":              "[::]:80:80",
		"*:5300:53/udp":           "*:5300:53/udp",
		"*:8000-8002:9000-9002":   "*:8000:9000 *:8001:9001 *:8002:9002",
		"*:5353:53/tcp+udp":       "*:5353:53 *:5353:53/udp",
		"*:65534-65535:1-2":       "*:65534:1 *:65535:2",
		"8-9:8-9/udp":             "127.0.0.1:8:8/udp [::1]:8:8/udp 127.0.0.1:9:9/udp [::1]:9:9/udp",
	} {
		list, err := Parse(text)
		var got []string
		for _, f := range list {
			got = append(got, f.String())
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: got %v, %v, want %s", text, got, err, want)
		}
	}
}

func TestParseBad(t *testing.T) {
	for text, want := range map[string]string{
		"":                     "a port of the host and one of the guest",
		"22":                   "a port of the host and one of the guest",
		"2222:22/sctp":         "/tcp, /udp or /tcp+udp",
		"2222:22/":             "/tcp, /udp or /tcp+udp",
		"2222:22/TCP":          "/tcp, /udp or /tcp+udp",
		"0:22":                 "ports 1 to 65535",
		"022:22":               "ports 1 to 65535",
		"+1:22":                "ports 1 to 65535",
		":22":                  "ports 1 to 65535",
		"22:":                  "ports 1 to 65535",
		"65536:22":             "ports 1 to 65535",
		"9-8:9-8":              "ports 1 to 65535",
		"1-2-3:1-3":            "ports 1 to 65535",
		"8000-8010:9000":       "the host has 11 ports and the guest 1",
		"*:1-257:1-257":        "at most 256 forwards; these are 257",
		"1-129:1-129":          "these are 258",
		"1-65535:1-65535":      "these are 131070",
		"::1:80:80":            "an IPv6 address in brackets",
		"[::1:80:80":           "an IPv6 address in brackets",
		"[127.0.0.1]:80:80":    "an IPv6 address in brackets",
		"[::1%lo]:80:80":       "an IPv6 address in brackets",
		"[fe80::1]:80:80":      "not link-local",
		"[::ffff:1.2.3.4]:1:1": "an IPv6 address in brackets",
		"224.0.0.1:80:80":      "an IPv4 address",
		"localhost:80:80":      "an IPv4 address",
		":80:80":               "an IPv4 address",
		"[*]:80:80":            "an IPv4 address",
	} {
		if list, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v, want ...%s", text, list, err, want)
		}
	}
}

// Two forwards meet where the kernel refuses to bind the second.
func TestForwardsThatMeet(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"*:80:1", "127.0.0.1:80:2", true},
		{"[::1]:80:1", "*:80:2", true},
		{"0.0.0.0:80:1", "127.0.0.1:80:2", true},
		{"0.0.0.0:80:1", "[::1]:80:2", false},
		{"0.0.0.0:80:1", "[::]:80:2", false},
		{"[::]:80:1", "[::1]:80:2", true},
		{"127.0.0.1:80:1", "127.0.0.2:80:2", false},
		{"127.0.0.1:80:1", "127.0.0.1:80:2/udp", false},
		{"127.0.0.1:80:1", "127.0.0.1:81:1", false},
	} {
		a, errA := Parse(c.a)
		b, errB := Parse(c.b)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if a[0].Meets(b[0]) != c.want || b[0].Meets(a[0]) != c.want {
			t.Errorf("%s and %s: want %v", c.a, c.b, c.want)
		}
	}
}

// What is read is written so that it reads as the same again.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"2222:22", "127.0.0.1:8080:80", "[::1]:8443:443", "*:5300:53/udp", "8000-8010:9000-9010", "5353:53/tcp+udp",
		"1-65535:1-65535", "[::ffff:1.2.3.4]:1:1", "[fe80::1%lo]:1:1", "::::", "[]:1:1", "-:-", "1:1/", "\x1b:1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := Parse(text)
		if (err == nil) != (len(list) > 0) || len(list) > Most {
			t.Fatalf("%q: got %v, %v", text, list, err)
		}
		for i, forward := range list {
			again, err := Parse(forward.String())
			if err != nil || !slices.Equal(again, []Forward{forward}) || forward.Port == 0 || forward.Guest == 0 {
				t.Errorf("%q: %v: got %v, %v", text, forward, again, err)
			}
			if o, ok := Meeting(forward, list[:i]); ok {
				t.Errorf("%q: %v and %v meet", text, forward, o)
			}
		}
	})
}
