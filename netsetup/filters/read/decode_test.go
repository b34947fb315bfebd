package read

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/filters"
)

// recorded is a recording of testdata.
func recorded(t *testing.T, name string) *recording {
	t.Helper()
	var rec recording
	loadJSON(t, filepath.Join("testdata", name+".json"), &rec)
	return &rec
}

// Replies that end early give an error or fewer rules, and never a panic.
func TestDecodeTruncated(t *testing.T) {
	for _, name := range []string{"sets-and-maps", "xtables", "ebtables"} {
		whole := recorded(t, name)
		for i, e := range whole.Exchanges {
			for j := range e.Replies {
				for _, keep := range []int{0, 3, 4, 7, len(e.Replies[j]) / 2, len(e.Replies[j]) - 1} {
					rec := recorded(t, name)
					r := &rec.Exchanges[i].Replies[j]
					*r = (*r)[:min(keep, len(*r))]
					rec.tables()
				}
			}
		}
		for i, l := range whole.Legacy {
			for keep := range len(l.Blob) {
				for _, f := range legacyFamilies {
					f.table(l.Table, l.Info, whole.Legacy[i].Blob[:keep])
				}
			}
		}
	}
}

// A module whose structure is shorter than its decoder expects is one condition that
// may hold.
func TestModuleTruncated(t *testing.T) {
	for name := range xtMatches {
		for rev := range uint32(4) {
			for size := range 200 {
				xtModule{name, rev, make([]byte, size)}.match()
			}
		}
		list, words, _ := xtModule{name: name}.match()
		if want := fmt.Sprintf("-m %s [not understood]", name); words != want || len(list) != 1 || list[0].Fields != nil {
			t.Errorf("got %v and %q, want %q", list, words, want)
		}
	}
}

// Modules and targets of which the captured rulesets have no rule.
func TestModules(t *testing.T) {
	info := func(numbers ...uint32) (b []byte) {
		for _, n := range numbers {
			b = binary.NativeEndian.AppendUint32(b, n)
		}
		return b
	}
	state := filters.AnyBit(filters.CTState, filters.StateEstablished|filters.StateRelated, false)
	for _, c := range []struct {
		module xtModule
		want   []filters.Match
		words  string
	}{
		{xtModule{"state", 0, info(6)}, []filters.Match{state}, "-m state --state RELATED,ESTABLISHED"},
		{xtModule{"icmp", 0, []byte{0xff, 0, 0xff, 0}}, nil, "-m icmp --icmp-type any"},
		{xtModule{"tcp", 0, append(binary.NativeEndian.AppendUint16(make([]byte, 2), 0xffff), 0, 0, 0xff, 0xff, 0, 0, 0, 0)}, nil, "-m tcp"},
		{xtModule{"udp", 0, append(binary.NativeEndian.AppendUint16(make([]byte, 2), 0xffff), 0, 0, 0xff, 0xff, 0)}, nil, "-m udp"},
		{xtModule{"string", 1, nil}, []filters.Match{{}}, "-m string [not understood]"},
	} {
		got, words, _ := c.module.match()
		if !reflect.DeepEqual(got, c.want) || words != c.words {
			t.Errorf("%s: got %v and %q, want %v and %q", c.module.name, got, words, c.want, c.words)
		}
	}
	for name, want := range map[string]filters.Verdict{
		"DROP": filters.Discard, "REJECT": filters.Reject, "NFQUEUE": filters.Queue, "DNAT": filters.Accept, "LOG": filters.Continue, "TARPIT": filters.Unknown,
	} {
		r := filters.Rule{Verdict: filters.Continue}
		words := strings.Join(xtModule{name: name}.target(&r), " ")
		if r.Verdict != want || name != "DROP" && words != "-j "+name {
			t.Errorf("%s: got %s and %q, want %s", name, r.Verdict, words, want)
		}
	}
}

// Quotes are those of iptables-save.
func TestQuoted(t *testing.T) {
	for text, want := range map[string]string{
		"a-b_3": "a-b_3", "two words": `"two words"`, `say "no"`: `"say \"no\""`, `back\slash`: `"back\\slash"`, "": `""`, "qnet:dev": `"qnet:dev"`,
	} {
		if got := quoted(text); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// changing is a conn whose rules change n times while they are read.
type changing struct {
	*recording
	n, generation uint32
}

func (c *changing) Execute(m netlink.Message) ([]netlink.Message, error) {
	if m.Header.Type&0xff != unix.NFT_MSG_GETGEN {
		return c.recording.Execute(m)
	}
	if c.generation < c.n {
		c.generation++
	}
	attr, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_GEN_ID, Data: binary.BigEndian.AppendUint32(nil, c.generation)}})
	return []netlink.Message{{Data: append(make([]byte, 4), attr...)}}, err
}

// A snapshot is of one generation: a change begins it again, and endless changes fail it.
func TestConsistent(t *testing.T) {
	want := ruleset(t, "nftables-conf").Tables
	rec := recorded(t, "nftables-conf")
	links := func() map[uint32]string { return rec.Links }
	s := &source{conn: &changing{recording: rec, n: 5}, links: links()}
	if got, err := s.consistent(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("after changes: %v, %+v", err, got)
	}
	s = &source{conn: &changing{recording: rec, n: 1000}, links: links()}
	if _, err := s.consistent(); err == nil || !strings.Contains(err.Error(), "change faster") {
		t.Errorf("with endless changes: %v", err)
	}
}

// A user reads what could not be read, but not that the kernel lacks an engine.
func TestUnread(t *testing.T) {
	for err, want := range map[error]string{
		nil:                    "",
		unix.EPERM:             "the rules of nftables cannot be read without root's rights",
		unix.EPROTONOSUPPORT:   "",
		errors.New("it broke"): "it broke",
	} {
		var r filters.Ruleset
		unread(&r, err, "nftables")
		if got := strings.Join(r.Unread, "; "); got != want {
			t.Errorf("%v: got %q, want %q", err, got, want)
		}
	}
}
