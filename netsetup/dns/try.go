package dns

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/net/dns/dnsmessage"
)

// Tried is what one name server of the host says to a question.
type Tried struct {
	Server  netip.Addr // of resolv.conf, with its zone
	Refusal string     // "ServerFailure" or "Refused": a guest's question goes on to the next server
	Err     error      // why there is no answer; nil if there is one, a refusal too
}

// Answers reports whether a guest's question ends at this server.
func (t Tried) Answers() bool { return t.Err == nil && t.Refusal == "" }

// Cause is Err in short: "timeout" or "connection refused".
func (t Tried) Cause() string {
	if timedOut(t.Err) {
		return "timeout"
	}
	if errno, ok := errors.AsType[syscall.Errno](t.Err); ok {
		return errno.Error()
	}
	return t.Err.Error()
}

// Try asks each of the host's name servers for the IPv4 addresses of a name, in the way in
// which a Server asks for a guest, all at once. It returns what they say in the order of the
// resolv.conf(5) at path, "" for /etc/resolv.conf. The error says that the name is none.
func Try(ctx context.Context, path, name string) ([]Tried, error) {
	return try(ctx, path, name, defaultLimits())
}

func try(ctx context.Context, path, name string, l limits) ([]Tried, error) {
	fqdn, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	if err != nil {
		return nil, err
	}
	question := dnsmessage.Message{
		Header:    dnsmessage.Header{RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: fqdn, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	raw, err := question.Pack()
	if err != nil {
		return nil, err
	}
	q, _, _ := parse(raw)
	f := &forwarder{limits: l, conf: &resolvConf{path: cmp.Or(path, hostsConf), every: l.total}}
	servers := f.servers()
	list := make([]Tried, len(servers))
	var asked sync.WaitGroup
	for i, server := range servers {
		asked.Go(func() { list[i] = f.try(ctx, server, raw, q) })
	}
	asked.Wait()
	return list, nil
}

func (f *forwarder) try(ctx context.Context, server netip.AddrPort, raw []byte, q query) Tried {
	t := Tried{Server: server.Addr()}
	got, err := f.ask(ctx, server, raw, q, f.upstream(overUDP))
	switch {
	case err != nil:
		t.Err = err
	case refuses(got):
		t.Refusal = strings.TrimPrefix(rcodeOf(got).String(), "RCode")
	}
	return t
}
