package answers

import (
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const mostChain = 16 // names of a chain

// Chain are the addresses at the end of the chain of names that begins with this one, and how
// long they and the chain live. What an answer has besides counts for nothing: a name server could
// else open whatever it likes. A message that is cut off has those before.
func Chain(name string, answer []byte) (addresses []netip.Addr, ttl time.Duration) {
	var p dnsmessage.Parser
	if _, err := p.Start(answer); err != nil || p.SkipAllQuestions() != nil {
		return nil, 0
	}
	type record struct {
		to      string
		address netip.Addr
		ttl     uint32
	}
	of := map[string][]record{}
	for {
		r, err := p.Answer()
		if err != nil {
			break
		}
		owner := Lower(r.Header.Name.String())
		switch body := r.Body.(type) {
		case *dnsmessage.AResource:
			of[owner] = append(of[owner], record{address: netip.AddrFrom4(body.A), ttl: r.Header.TTL})
		case *dnsmessage.AAAAResource:
			of[owner] = append(of[owner], record{address: netip.AddrFrom16(body.AAAA).Unmap(), ttl: r.Header.TTL})
		case *dnsmessage.CNAMEResource:
			of[owner] = append(of[owner], record{to: Lower(body.CNAME.String()), ttl: r.Header.TTL})
		}
	}
	least := ^uint32(0)
	next := Lower(name)
	for range mostChain {
		at := next
		next = ""
		for _, r := range of[at] {
			least = min(least, r.ttl)
			if r.to != "" {
				next = r.to
			} else {
				addresses = append(addresses, r.address)
			}
		}
		if next == "" {
			break
		}
	}
	return addresses, time.Duration(least) * time.Second
}

// Lower maps ASCII letters only: to DNS all other bytes are just bytes.
func Lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
