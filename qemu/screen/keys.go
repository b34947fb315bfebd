package screen

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// keyTime is how long a key is held, and then how long none is: a PC's keyboard keeps 16
// bytes that its guest has not read (PS2_QUEUE_SIZE in hw/input/ps2.c).
const keyTime = 20 * time.Millisecond

// MaxText bounds the text that Strokes reads, in bytes.
const MaxText = 64 << 10

// Stroke are the keys that are pressed together, by QEMU's names (QKeyCode in
// qapi/ui.json), in their order: "ctrl", "alt", "delete".
type Stroke []string

// Enter is the stroke of the Enter key.
var Enter = Stroke{"ret"}

// named are the keys that have a name between < and >, and QEMU's names for them.
var named = map[string]string{
	"enter": "ret", "tab": "tab", "space": "spc", "esc": "esc", "backspace": "backspace", "delete": "delete", "del": "delete", "insert": "insert",
	"home": "home", "end": "end", "pgup": "pgup", "pgdn": "pgdn", "up": "up", "down": "down", "left": "left", "right": "right",
	"ctrl": "ctrl", "alt": "alt", "altgr": "alt_r", "shift": "shift", "meta": "meta_l", "menu": "menu",
	"capslock": "caps_lock", "numlock": "num_lock", "scrolllock": "scroll_lock", "print": "print", "sysrq": "sysrq", "pause": "pause",
	"f1": "f1", "f2": "f2", "f3": "f3", "f4": "f4", "f5": "f5", "f6": "f6", "f7": "f7", "f8": "f8", "f9": "f9", "f10": "f10", "f11": "f11", "f12": "f12",
}

// plain and shifted are the keys of a US keyboard that give a character, without and with
// shift.
var plain = map[rune]string{
	' ': "spc", '\n': "ret", '\t': "tab", '-': "minus", '=': "equal", '[': "bracket_left", ']': "bracket_right", '\\': "backslash",
	';': "semicolon", '\'': "apostrophe", '`': "grave_accent", ',': "comma", '.': "dot", '/': "slash",
}

var shifted = map[rune]string{
	'!': "1", '@': "2", '#': "3", '$': "4", '%': "5", '^': "6", '&': "7", '*': "8", '(': "9", ')': "0", '_': "minus", '+': "equal",
	'{': "bracket_left", '}': "bracket_right", '|': "backslash", ':': "semicolon", '"': "apostrophe", '~': "grave_accent", '<': "comma", '>': "dot", '?': "slash",
}

// character returns the keys for a character on a US keyboard, nil if it has none.
func character(r rune) Stroke {
	switch {
	case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
		return Stroke{string(r)}
	case r >= 'A' && r <= 'Z':
		return Stroke{"shift", string(r - 'A' + 'a')}
	case plain[r] != "":
		return Stroke{plain[r]}
	case shifted[r] != "":
		return Stroke{"shift", shifted[r]}
	}
	return nil
}

// Strokes reads a text: its characters as a US keyboard has them, and names of keys between
// < and >, with "-" between keys that are pressed together, as in "<ctrl-alt-del>". "<lt>" is
// the character <.
func Strokes(text string) ([]Stroke, error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("the text has %d bytes, allowed: at most %d", len(text), MaxText)
	}
	var strokes []Stroke
	for text != "" {
		if rest, found := strings.CutPrefix(text, "<"); found {
			name, after, closed := strings.Cut(rest, ">")
			stroke := combination(name)
			if !closed || stroke == nil {
				return nil, fmt.Errorf("got %.20q, allowed behind <: a key or keys such as enter, esc, f1, ctrl-alt-del, and then >; <lt> is the character <", "<"+rest)
			}
			strokes, text = append(strokes, stroke), after
			continue
		}
		r := []rune(text)[0]
		stroke := character(r)
		if stroke == nil {
			return nil, fmt.Errorf("got %q, which a US keyboard has not", r)
		}
		strokes, text = append(strokes, stroke), text[len(string(r)):]
	}
	return strokes, nil
}

// combination reads what stands between < and >; nil for what is no key.
func combination(name string) Stroke {
	if name == "lt" {
		return character('<')
	}
	var stroke Stroke
	for _, key := range strings.Split(strings.ToLower(name), "-") {
		code := named[key]
		if code == "" && len(key) == 1 && len(character(rune(key[0]))) == 1 {
			code = character(rune(key[0]))[0]
		}
		if code == "" || slices.Contains(stroke, code) {
			return nil
		}
		stroke = append(stroke, code)
	}
	return stroke
}

// codes are QEMU's names of all keys that Strokes gives.
var codes = sync.OnceValue(func() map[string]bool {
	all := map[string]bool{}
	for _, code := range named {
		all[code] = true
	}
	for r := rune(' '); r <= '~'; r++ {
		for _, code := range character(r) {
			all[code] = true
		}
	}
	return all
})

// Type presses the keys of each stroke and releases them. It takes 40 ms for a stroke.
func Type(ctx context.Context, m Monitor, strokes []Stroke) error {
	for _, s := range strokes {
		if len(s) == 0 || !allKnown(s) {
			return fmt.Errorf("type: %q is no stroke of known keys", s)
		}
		err := errors.Join(send(ctx, m, s, true), wait(ctx, keyTime))
		released := slices.Clone(s)
		slices.Reverse(released)
		// A key that stays down would repeat itself.
		err = errors.Join(err, send(context.WithoutCancel(ctx), m, released, false), wait(ctx, keyTime))
		if err != nil {
			return fmt.Errorf("type: %w", err)
		}
	}
	return nil
}

func allKnown(s Stroke) bool {
	return !slices.ContainsFunc(s, func(code string) bool { return !codes()[code] })
}

func send(ctx context.Context, m Monitor, keys Stroke, down bool) error {
	type object = map[string]any
	var events []object
	for _, k := range keys {
		events = append(events, object{"type": "key", "data": object{"down": down, "key": object{"type": "qcode", "data": k}}})
	}
	return m.Execute(ctx, "input-send-event", object{"events": events}, nil)
}
