// Package sshkey makes and reads SSH keys: the host keys of guests, qnet's own key, and the
// user's public keys from files and from an agent. Its functions may be called concurrently.
package sshkey

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// The types of keys that qnet makes, as SSH names them (RFC 8709, RFC 5656). Every SSH
// client since OpenSSH 5.7 takes one of them.
const (
	Ed25519 = "ssh-ed25519"
	ECDSA   = "ecdsa-sha2-nistp256"
)

// Pair is a key. It is a secret, and prints as its public half.
type Pair struct {
	Private string // PEM, as sshd(8) and ssh(1) read it
	Public  string // a line of authorized_keys(5) without its end: type, base64, comment
}

// String returns the public half.
func (p Pair) String() string { return p.Public }

// GoString returns the public half.
func (p Pair) GoString() string { return p.Public }

// New makes a key of a type.
func New(kind, comment string) (Pair, error) {
	if kind == ECDSA {
		return newECDSA(comment)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("make SSH key: %w", err)
	}
	blob := str(str(nil, []byte(Ed25519)), public)
	return Pair{string(openSSH(blob, public, private, comment)), line(Ed25519, blob, comment)}, nil
}

// newECDSA makes a key on the curve P-256, whose private half is PEM of SEC 1.
func newECDSA(comment string) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("make SSH key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("encode SSH key: %w", err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return Pair{}, fmt.Errorf("encode SSH key: %w", err)
	}
	return Pair{string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})), line(ECDSA, ecdsaBlob(point), comment)}, nil
}

func line(kind string, blob []byte, comment string) string {
	return strings.TrimSpace(kind + " " + base64.StdEncoding.EncodeToString(blob) + " " + comment)
}

// str appends a string of the SSH protocol (RFC 4251, section 5).
func str(b, s []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// openSSH encodes an Ed25519 key without a passphrase (PROTOCOL.key of OpenSSH).
func openSSH(blob []byte, public ed25519.PublicKey, private ed25519.PrivateKey, comment string) []byte {
	var check [4]byte
	rand.Read(check[:]) // it never fails
	secret := slices.Concat(check[:], check[:])
	secret = str(str(secret, []byte(Ed25519)), public)
	secret = str(str(secret, private), []byte(comment))
	for i := byte(1); len(secret)%8 != 0; i++ {
		secret = append(secret, i)
	}
	b := []byte(magic)
	b = str(str(str(b, []byte("none")), []byte("none")), nil) // cipher, and how to get its key
	b = binary.BigEndian.AppendUint32(b, 1)
	b = str(str(b, blob), secret)
	return pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: b})
}

// magic begins the binary form of a private key (PROTOCOL.key of OpenSSH).
const magic = "openssh-key-v1\x00"

// publicOf returns the public half of a private key that New made.
func publicOf(private, comment string) (string, error) {
	block, _ := pem.Decode([]byte(private))
	if block == nil {
		return "", errors.New("it is no key")
	}
	if block.Type == "EC PRIVATE KEY" {
		key, err := x509.ParseECPrivateKey(block.Bytes)
		if err != nil {
			return "", fmt.Errorf("parse key: %w", err)
		}
		point, err := key.PublicKey.Bytes()
		return line(ECDSA, ecdsaBlob(point), comment), err
	}
	b, ok := bytes.CutPrefix(block.Bytes, []byte(magic))
	var fields [3][]byte // cipher, how to get its key, with which options
	for i := range fields {
		if ok {
			fields[i], b, ok = cutString(b)
		}
	}
	if !ok || string(fields[0]) != "none" || len(b) < 4 {
		return "", errors.New("it is no key of OpenSSH without a passphrase")
	}
	blob, _, ok := cutString(b[4:]) // behind the number of keys
	kind, _, ok2 := cutString(blob)
	if !ok || !ok2 {
		return "", errors.New("it ends too early")
	}
	return Parse(line(string(kind), blob, comment))
}

func ecdsaBlob(point []byte) []byte {
	return str(str(str(nil, []byte(ECDSA)), []byte("nistp256")), point)
}

// kinds begin the types of public keys that sshd takes for a login.
var kinds = []string{"ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"}

// Parse reads a public key, a line of authorized_keys(5) without options, and returns it
// with single spaces. A private key is refused in words that do not repeat it.
func Parse(text string) (string, error) {
	if strings.Contains(text, "PRIVATE KEY") {
		return "", errors.New("this is a private key; name its .pub file")
	}
	words := strings.Fields(text)
	if len(words) < 2 || strings.ContainsAny(strings.TrimSpace(text), "\n\r") {
		return "", errors.New(`no public key; one is a line such as "ssh-ed25519 AAAA... me@host"`)
	}
	blob, err := base64.StdEncoding.DecodeString(words[1])
	if err != nil || !slices.ContainsFunc(kinds, func(k string) bool { return strings.HasPrefix(words[0], k) }) ||
		!bytes.HasPrefix(blob, str(nil, []byte(words[0]))) {
		return "", fmt.Errorf(`no public key: it begins with %.20q; one is a line such as "ssh-ed25519 AAAA... me@host"`, words[0])
	}
	for _, r := range text {
		if unicode.IsControl(r) && r != '\t' && r != '\n' {
			return "", errors.New("no public key: it has control characters")
		}
	}
	return strings.Join(words, " "), nil
}

// Same reports whether two lines of Parse are the same key, whatever their comments.
func Same(a, b string) bool { return body(a) == body(b) }

func body(key string) string {
	words := strings.SplitN(key, " ", 3)
	return strings.Join(words[:min(2, len(words))], " ")
}

// Merge appends the keys of more that are not in list yet.
func Merge(list []string, more ...string) []string {
	for _, k := range more {
		if !slices.ContainsFunc(list, func(other string) bool { return Same(k, other) }) {
			list = append(list, k)
		}
	}
	return list
}
