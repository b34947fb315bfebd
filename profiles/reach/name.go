package reach

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	mostName  = 253 // bytes of a name (RFC 1035, 2.3.4)
	mostLabel = 63  // and of a label
)

var errName = errors.New("no name, address or prefix; allowed: such as deb.debian.org, *.github.com:443, 192.0.2.0/24:22, !10.0.0.0/8")

// parseName returns a name in lower case and ASCII.
func parseName(s string) (string, error) {
	s = strings.TrimSuffix(s, ".")
	below, wild := strings.CutPrefix(s, "*.")
	if s == "*" {
		return "", errors.New("* alone is every name: leave egress out")
	}
	if strings.Contains(below, "*") {
		return "", errors.New("a * stands for whole labels, and first, such as *.github.com")
	}
	labels := strings.Split(below, ".")
	for i, l := range labels {
		label, ok := ascii(l)
		if !ok {
			return "", errName
		}
		labels[i] = label
	}
	name := strings.Join(labels, ".")
	if wild {
		name = "*." + name
	}
	if len(name) > mostName || allDigits(labels[len(labels)-1]) {
		return "", errName
	}
	return name, nil
}

// allDigits tells a mistyped address.
func allDigits(label string) bool {
	return strings.Trim(label, "0123456789") == ""
}

// ascii is a label as DNS has it: one of other letters in Punycode (RFC 3492).
func ascii(label string) (string, bool) {
	if !utf8.ValidString(label) {
		return "", false
	}
	label = strings.ToLower(label)
	for _, r := range label {
		plain := r < utf8.RuneSelf && (r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_')
		if !plain && (r < utf8.RuneSelf || !unicode.In(r, unicode.L, unicode.M, unicode.Nd)) {
			return "", false
		}
	}
	if strings.IndexFunc(label, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0 {
		label = "xn--" + punycode([]rune(label))
	}
	return label, label != "" && len(label) <= mostLabel
}

// Parameters of Punycode (RFC 3492, section 5).
const (
	base        = 36
	tMin        = 1
	tMax        = 26
	skew        = 38
	damp        = 700
	initialBias = 72
	initialN    = 128
)

// punycode encodes a label (RFC 3492, section 6.3).
func punycode(label []rune) string {
	var out []byte
	for _, r := range label {
		if r < utf8.RuneSelf {
			out = append(out, byte(r))
		}
	}
	plain := len(out)
	if plain > 0 {
		out = append(out, '-')
	}
	n, delta, bias := rune(initialN), 0, initialBias
	for done := plain; done < len(label); {
		next := rune(unicode.MaxRune)
		for _, r := range label {
			if r >= n && r < next {
				next = r
			}
		}
		delta += int(next-n) * (done + 1)
		n = next
		for _, r := range label {
			if r < n {
				delta++
			}
			if r != n {
				continue
			}
			out = appendDelta(out, delta, bias)
			bias = adapt(delta, done+1, done == plain)
			delta = 0
			done++
		}
		delta++
		n++
	}
	return string(out)
}

func appendDelta(out []byte, delta, bias int) []byte {
	q := delta
	for k := base; ; k += base {
		t := min(max(k-bias, tMin), tMax)
		if q < t {
			return append(out, digit(q))
		}
		out = append(out, digit(t+(q-t)%(base-t)))
		q = (q - t) / (base - t)
	}
}

func digit(d int) byte {
	if d < 26 {
		return byte('a' + d)
	}
	return byte('0' + d - 26)
}

// adapt is RFC 3492, section 6.1.
func adapt(delta, points int, first bool) int {
	if first {
		delta /= damp
	} else {
		delta /= 2
	}
	delta += delta / points
	k := 0
	for ; delta > (base-tMin)*tMax/2; k += base {
		delta /= base - tMin
	}
	return k + (base-tMin+1)*delta/(delta+skew)
}
