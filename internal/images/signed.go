package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/qnet-vm/qnet/internal/images/catalog"
	"github.com/qnet-vm/qnet/internal/images/signature"
	"github.com/qnet-vm/qnet/internal/jail"
)

// SignatureError is a signature that is not what the keys of the image's maker made.
type SignatureError struct {
	Source, Signed string // the image, and the URL of its signature
	Own            bool   // of the user's catalog
	Err            error
}

// Error names the signature and what is wrong.
func (e *SignatureError) Error() string {
	return fmt.Sprintf("pull %s: signature %s: %v; nothing of the image is kept", e.Source, e.Signed, e.Err)
}

// Unwrap returns the cause.
func (e *SignatureError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *SignatureError) Hint() string {
	if e.Own {
		return "compare the key in " + catalog.FileName + " with the one that the image's maker names: the maker may have a new key, or the image was changed on the way"
	}
	return "the distribution may have a new key: update the package that has the keys; an entry of your " + catalog.FileName + ` without "signed" verifies the checksum alone`
}

// mostSignature bounds a signature, which may be a signed text.
const mostSignature = 1 << 20

// Trust says how an image's signature is verified: by the keys of a file, or, if keys is "",
// not at all, and why.
func (s Store) Trust(i Image) (keys, why string) {
	switch {
	case i.Signed == "":
		return "", "no signature of it is known"
	case len(i.Keys) == 0:
		return "", "no key of it is known"
	}
	for _, file := range i.Keys {
		if _, err := os.Stat(file); err == nil {
			if _, ok := jail.Find("gpgv", s.Search); !ok && !i.Own {
				return "", "the program gpgv is not installed"
			}
			return file, ""
		}
	}
	if i.Own {
		return i.Keys[0], "" // what the user asks for is not left out
	}
	return "", "none of its files of keys is there: " + strings.Join(i.Keys, ", ")
}

// ofImage reports whether the signature is the image's own, not that of its checksums.
func (i Image) ofImage() bool { return i.Signed != "" && strings.HasPrefix(i.Signed, i.URL+".") }

// verifySignature gets the image's signature and has it verified, if there are keys for it. It notes
// that for the record.
func (p *pulling) verifySignature(ctx context.Context, verify func(v signature.Verifier, keys string, signature []byte) error) error {
	keys, why := p.Trust(p.Image)
	if keys == "" {
		p.trust = "not verified: " + why
		return nil
	}
	p.report(Event{Stage: Looking, Image: p.Source(), From: p.Signed, Total: -1})
	text, err := p.Fetch.Text(ctx, p.Signed, mostSignature)
	if err == nil {
		err = verify(signature.Verifier{Search: p.Search, Dir: filepath.Dir(p.file("work", "")), Credential: (&work{pulling: p}).credential()}, keys, text)
	}
	if err != nil && ctx.Err() == nil {
		return &SignatureError{p.Source(), p.Signed, p.Own, err}
	}
	p.trust = "verified by " + keys
	return err
}

// signedSums returns the text of published checksums that its signature is of.
func (p *pulling) signedSums(ctx context.Context, text []byte) ([]byte, error) {
	if p.ofImage() {
		return text, nil
	}
	err := p.verifySignature(ctx, func(v signature.Verifier, keys string, sig []byte) (err error) {
		text, err = v.Text(ctx, keys, sig, text)
		return err
	})
	return text, err
}

// signedImage verifies the signature of the downloaded image itself.
func (p *pulling) signedImage(ctx context.Context) error {
	if !p.ofImage() {
		return nil
	}
	f, err := os.Open(p.part)
	if err != nil {
		return err
	}
	err = p.verifySignature(ctx, func(v signature.Verifier, keys string, sig []byte) error { return v.File(ctx, keys, sig, f) })
	return errors.Join(err, f.Close())
}
