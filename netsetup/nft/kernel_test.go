package nft

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nltest"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fakeKernel answers a Conn from memory, as far as tables go. The real kernel's part is
// in TestTextAndNetlinkAgree.
type fakeKernel struct {
	comments map[string]string // by "family name"
	flags    map[string]uint32
	old      bool  // no owner flag
	fails    error // of every batch
	rules    int   // messages about what is in tables
}

func (k *fakeKernel) answer(req []netlink.Message) ([]netlink.Message, error) {
	if len(req) == 0 {
		return []netlink.Message{ack(netlink.Message{})}, nil // another acknowledgement of the last batch
	}
	if len(req) == 1 {
		return k.get(req[0])
	}
	if k.fails != nil {
		return nil, k.fails
	}
	for _, m := range req {
		if err := k.change(m); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func ack(m netlink.Message) netlink.Message {
	return netlink.Message{Header: netlink.Header{Type: netlink.Error, Sequence: m.Header.Sequence, PID: m.Header.PID}, Data: make([]byte, 4)}
}

// table reads a table's name, flags and comment.
func table(m netlink.Message) (key string, flags uint32, comment string) {
	attrs, err := netlink.UnmarshalAttributes(m.Data[4:])
	if err != nil {
		panic(err)
	}
	for _, a := range attrs {
		switch a.Type {
		case unix.NFTA_TABLE_NAME:
			key = fmt.Sprintf("%d %s", m.Data[0], unix.ByteSliceToString(a.Data))
		case unix.NFTA_TABLE_FLAGS:
			flags = binaryutil.BigEndian.Uint32(a.Data)
		}
	}
	return key, flags, tableComment(m.Data[4:])
}

func (k *fakeKernel) get(m netlink.Message) ([]netlink.Message, error) {
	key, _, _ := table(m)
	comment, ok := k.comments[key]
	if !ok {
		return nltest.Error(int(unix.ENOENT), []netlink.Message{m})
	}
	var attrs []byte
	if comment != "" {
		attrs = nltest.MustMarshalAttributes([]netlink.Attribute{{Type: attrUserdata, Data: userdata.AppendString(nil, udataTable, comment)}})
	}
	m.Data = append(m.Data[:4:4], attrs...)
	return []netlink.Message{m}, nil
}

func (k *fakeKernel) change(m netlink.Message) error {
	switch m.Header.Type {
	case msgType(unix.NFT_MSG_NEWTABLE):
		key, flags, comment := table(m)
		_, there := k.comments[key]
		switch {
		case k.old && flags != 0:
			return unix.EOPNOTSUPP
		case there && m.Header.Flags&netlink.Excl != 0:
			return unix.EEXIST
		}
		k.comments[key], k.flags[key] = comment, flags
	case msgType(unix.NFT_MSG_DELTABLE):
		key, _, _ := table(m)
		delete(k.comments, key)
	case unix.NFNL_MSG_BATCH_BEGIN, unix.NFNL_MSG_BATCH_END:
	default:
		k.rules++
	}
	return nil
}

func fakeConn(t *testing.T) (*Conn, *fakeKernel) {
	t.Helper()
	k := &fakeKernel{comments: map[string]string{}, flags: map[string]uint32{}}
	c, err := dial(nftables.WithTestDial(k.answer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, k
}

func TestTables(t *testing.T) {
	c, k := fakeConn(t)
	for _, table := range everything() {
		has := func() bool {
			t.Helper()
			ok, err := c.Has(table.Family, table.Name, table.Comment)
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		if has() {
			t.Errorf("%s %s: it is there at first", table.Family, table.Name)
		}
		for range 2 { // adding again replaces
			if err := c.Add(table); err != nil {
				t.Fatal(err)
			}
			if !has() {
				t.Errorf("%s %s: it is not there", table.Family, table.Name)
			}
		}
		before := k.rules
		if err := c.Adopt(table); err != nil || !has() || k.rules != before {
			t.Errorf("adopt %s %s: %v; it has its rules already", table.Family, table.Name, err)
		}
		for range 2 {
			if err := c.Delete(table.Family, table.Name, table.Comment); err != nil || has() {
				t.Errorf("delete %s %s: %v", table.Family, table.Name, err)
			}
		}
		if err := c.Adopt(table); err != nil || !has() || k.rules == before {
			t.Errorf("adopt %s %s, which is not there: %v", table.Family, table.Name, err)
		}
	}
	if k.flags["1 qnet_t"] != flagOwner|flagPersist {
		t.Errorf("flags %v", k.flags)
	}
	if err := c.SetElements(INet, "qnet_t", Set{Name: "uplinks", Links: []string{"eth1"}}); err != nil {
		t.Error(err)
	}
}

// A table that another program made under our name is left alone.
func TestTableOfAnother(t *testing.T) {
	c, k := fakeConn(t)
	inet := everything()[0]
	for _, comment := range []string{"", "qnet:other"} {
		k.comments["1 qnet_t"] = comment
		adopt := c.Adopt(inet)
		for name, err := range map[string]error{"add": c.Add(inet), "delete": c.Delete(inet.Family, inet.Name, inet.Comment), "adopt": adopt} {
			if !errors.Is(err, ErrNotOurs) || k.comments["1 qnet_t"] != comment || k.rules != 0 {
				t.Errorf("%s: got %v, want ErrNotOurs", name, err)
			}
		}
	}
}

func TestOldKernel(t *testing.T) {
	c, k := fakeConn(t)
	k.old = true
	if err := c.Add(everything()[0]); err != nil || k.flags["1 qnet_t"] != 0 || k.comments["1 qnet_t"] != "qnet:t" {
		t.Errorf("a kernel without owner: %v, %+v", err, k)
	}
}

func TestKernelRefuses(t *testing.T) {
	c, k := fakeConn(t)
	k.fails = unix.EPERM
	inet := everything()[0]
	adopted := c.Adopt(inet)
	for name, err := range map[string]error{"add": c.Add(inet), "adopt": adopted, "set": c.SetElements(INet, "qnet_t", Set{Name: "uplinks"})} {
		if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "qnet_t") && name != "set" {
			t.Errorf("%s: got %v, want EPERM with the table's name", name, err)
		}
	}
	k.comments["1 qnet_t"] = inet.Comment
	if err := c.Delete(inet.Family, inet.Name, inet.Comment); !errors.Is(err, unix.EPERM) {
		t.Errorf("delete: got %v", err)
	}
	if err := c.Adopt(inet); !errors.Is(err, unix.EPERM) {
		t.Errorf("adopt: got %v", err)
	}
	k.fails = unix.ENOENT
	if err := c.Delete(inet.Family, inet.Name, inet.Comment); err != nil {
		t.Errorf("deleted meanwhile: got %v", err)
	}
}

// The golden file has each rule's text and the expressions that it becomes.
func TestExpressions(t *testing.T) {
	c, _ := fakeConn(t)
	var b strings.Builder
	tables := everything()
	tables[0].Chains[0].Rules = append(tables[0].Chains[0].Rules, Rule{Source: netip.MustParsePrefix("0.0.0.0/0"), Do: Accept})
	for _, table := range tables {
		lib := &nftables.Table{Name: table.Name, Family: nftables.TableFamily(numbers[table.Family])}
		sets := map[string]*nftables.Set{}
		for _, s := range table.Sets {
			sets[s.Name] = &nftables.Set{Name: s.Name}
		}
		for _, chain := range table.Chains {
			base := baseChain(lib, chain)
			fmt.Fprintf(&b, "%s: hook %d, priority %d, policy %d, device %q\n", chain.Name, *base.Hooknum, *base.Priority, *base.Policy, base.Device)
			for _, r := range chain.Rules {
				exprs, err := c.ruleExprs(lib, r, sets)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&b, "  %s\n", r)
				for _, e := range exprs {
					if l, ok := e.(*expr.Lookup); ok {
						l.SetID = 0 // counts on from test to test
					}
					fmt.Fprintf(&b, "    %s\n", strings.Replace(fmt.Sprintf("%T %+v", e, e), " &", " ", 1))
				}
			}
		}
	}
	golden := filepath.Join("testdata", "expressions.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || string(want) != b.String() {
		t.Errorf("got\n%s\nwant\n%s\n%v", b.String(), want, err)
	}
	defer func() {
		if recover() == nil {
			t.Error("an unknown action is no panic")
		}
	}()
	actionExprs("dance")
}
