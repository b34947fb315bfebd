package sshkey

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	agentTime   = 2 * time.Second // a local socket; an agent that waits for a token answers this request at once
	maxAnswer   = 1 << 20         // bytes
	maxKeys     = 64
	askForKeys  = 11 // SSH_AGENTC_REQUEST_IDENTITIES (draft-ietf-sshm-ssh-agent, section 5)
	answersKeys = 12 // SSH_AGENT_IDENTITIES_ANSWER
)

// FromAgent returns the public keys that the agent at a socket has, as lines of Parse.
func FromAgent(socket string) ([]string, error) {
	keys, err := askAgent(socket)
	if err != nil {
		return nil, fmt.Errorf("ask SSH agent %q for its keys: %w", socket, err)
	}
	return keys, nil
}

func askAgent(socket string) ([]string, error) {
	c, err := net.DialTimeout("unix", socket, agentTime)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(agentTime)); err != nil {
		return nil, err
	}
	if _, err := c.Write([]byte{0, 0, 0, 1, askForKeys}); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxAnswer {
		return nil, fmt.Errorf("an answer of %d bytes", n)
	}
	answer := make([]byte, n)
	if _, err := io.ReadFull(c, answer); err != nil {
		return nil, err
	}
	return identities(answer)
}

// identities reads an answer: its type, the number of keys, and of each the key and a
// comment. It leaves out what is no key for a login, such as a certificate.
func identities(b []byte) ([]string, error) {
	if len(b) < 5 || b[0] != answersKeys {
		return nil, errors.New("no list of keys")
	}
	count, b := binary.BigEndian.Uint32(b[1:]), b[5:]
	if count > maxKeys {
		return nil, fmt.Errorf("%d keys, at most %d", count, maxKeys)
	}
	var keys []string
	for range count {
		blob, rest, ok := cutString(b)
		comment, rest, ok2 := cutString(rest)
		kind, _, ok3 := cutString(blob)
		if !ok || !ok2 || !ok3 {
			return nil, errors.New("a list that ends too early")
		}
		b = rest
		key, err := Parse(string(kind) + " " + base64.StdEncoding.EncodeToString(blob) + " " + string(comment))
		if err == nil && !isCertificate(string(kind)) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// isCertificate reports whether a type is that of a certificate, which authorized_keys
// does not take.
func isCertificate(kind string) bool {
	const end = "-cert-v01@openssh.com"
	return len(kind) > len(end) && kind[len(kind)-len(end):] == end
}

// cutString cuts a string of the SSH protocol off (RFC 4251, section 5).
func cutString(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 4 || uint64(binary.BigEndian.Uint32(b)) > uint64(len(b)-4) {
		return nil, nil, false
	}
	n := 4 + int(binary.BigEndian.Uint32(b))
	return b[4:n], b[n:], true
}
