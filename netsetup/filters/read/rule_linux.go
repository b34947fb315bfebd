package read

import (
	"bytes"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/filters"
)

// decoder turns the expressions of one rule, a small program over registers, into
// conditions and a verdict.
type decoder struct {
	*source
	key    tableKey
	engine filters.Engine
	regs   map[int]load // by the first byte, of 64
	rule   filters.Rule
	words  []string // of the rule's text; of iptables those behind flags
	flags  xtFlags
	branch []element     // the elements of a verdict map
	on     filters.Match // the fields that the verdict map compares
	err    error
}

// load is the content of a register: a field, masked; known is false for a content
// that the decoder does not understand.
type load struct {
	field filters.Field
	mask  []byte
	known bool
}

// exprs are the expressions that the decoder understands. Every other one counts as a
// condition that may hold: the library would leave it out silently.
var exprs = map[string]func() expr.Any{
	"meta":      func() expr.Any { return &expr.Meta{} },
	"payload":   func() expr.Any { return &expr.Payload{} },
	"ct":        func() expr.Any { return &expr.Ct{} },
	"fib":       func() expr.Any { return &expr.Fib{} },
	"bitwise":   func() expr.Any { return &expr.Bitwise{} },
	"cmp":       func() expr.Any { return &expr.Cmp{} },
	"range":     func() expr.Any { return &expr.Range{} },
	"lookup":    func() expr.Any { return &expr.Lookup{} },
	"immediate": func() expr.Any { return &expr.Immediate{} },
	"reject":    func() expr.Any { return &expr.Reject{} },
	"match":     func() expr.Any { return &expr.Match{} },
	"target":    func() expr.Any { return &expr.Target{} },
}

// effects are expressions that count or change a packet, which then goes on.
var effects = map[string]bool{
	"counter": true, "log": true, "objref": true, "dynset": true, "dup": true,
	"flow_offload": true, "last": true,
}

// translations are expressions that translate a packet and end its way through a nat
// chain.
var translations = map[string]bool{"nat": true, "masq": true, "redir": true, "tproxy": true}

// decodeRule returns one rule, or several for a rule with a verdict map.
func (s *source) decodeRule(engine filters.Engine, raw rawRule) ([]filters.Rule, error) {
	d := &decoder{
		source: s, key: raw.key, engine: engine, regs: map[int]load{},
		rule: filters.Rule{Verdict: filters.Continue, Comment: comment(raw.user), Handle: raw.handle},
	}
	for _, e := range nested(raw.expressions) {
		var name string
		var data []byte
		for _, a := range nested(e.Data) {
			switch a.Type {
			case unix.NFTA_EXPR_NAME:
				name = text(a.Data)
			case unix.NFTA_EXPR_DATA:
				data = a.Data
			}
		}
		d.expr(name, data)
	}
	if d.err != nil {
		return nil, d.err
	}
	return d.finish(raw.chain), nil
}

// comment is the comment in the user data of a rule.
func comment(user []byte) string {
	if len(user) < 2 || int(user[1])+2 > len(user) { // userdata.GetString would read beyond the end
		return ""
	}
	text, _ := userdata.GetString(user, userdata.TypeComment)
	return text
}

func (d *decoder) expr(name string, data []byte) {
	empty, known := exprs[name]
	switch {
	case name == "notrack":
		d.rule.Untracks = true // which drops nothing, but prevents qnet's masquerade
		d.words = append(d.words, name)
		return
	case effects[name]:
		return
	case translations[name]:
		d.rule.Verdict, d.rule.Redirects = filters.Accept, name != "masq"
		return
	case name == "queue":
		d.rule.Verdict = filters.Queue
		return
	case !known:
		d.unknown(name)
		return
	}
	switch name {
	case "match", "target": // their data are those of xtables
		d.xt(name, data)
		return
	case "immediate":
		d.immediate(data)
		return
	}
	e := empty()
	if err := expr.Unmarshal(d.key.family, data, e); err != nil {
		d.unknown(name)
		return
	}
	d.understood(e)
}

func (d *decoder) understood(e expr.Any) {
	switch e := e.(type) {
	case *expr.Meta:
		if !e.SourceRegister { // otherwise it sets the field
			d.load(e.Register, metaField(e.Key))
		}
	case *expr.Payload:
		if e.OperationType == expr.PayloadLoad {
			d.load(e.DestRegister, payloadField(e))
		}
	case *expr.Ct:
		if !e.SourceRegister {
			d.load(e.Register, ctField(e))
		}
	case *expr.Fib:
		d.load(e.Register, fibField(e))
	case *expr.Bitwise:
		d.bitwise(e)
	case *expr.Cmp:
		d.compare(e)
	case *expr.Range:
		d.match(d.regs[register(e.Register)], e.Op == expr.CmpOpNeq, span(e.FromData, e.ToData))
	case *expr.Lookup:
		d.lookup(e)
	case *expr.Reject:
		d.rule.Verdict = filters.Reject
	}
}

// unknown adds a condition that may hold; the name stands for it in the rule's text.
func (d *decoder) unknown(name string) {
	d.rule.Matches = append(d.rule.Matches, filters.Match{})
	d.words = append(d.words, "["+name+"]")
}

// register is the first byte of a register. The four registers of 16 bytes overlay
// the sixteen of 4 bytes.
func register(r uint32) int {
	if r <= unix.NFT_REG_4 {
		return 16 * int(r-1)
	}
	return 4 * int(r-unix.NFT_REG32_00)
}

func (d *decoder) load(r uint32, f filters.Field) {
	d.regs[register(r)] = load{field: f, known: f != (filters.Field{})}
}

func (d *decoder) bitwise(e *expr.Bitwise) {
	l := d.regs[register(e.SourceRegister)]
	plain := len(e.Mask) > 0 && len(bytes.Trim(e.Xor, "\x00")) == 0 && l.mask == nil
	l.mask, l.known = e.Mask, l.known && plain
	d.regs[register(e.DestRegister)] = l
}

func (d *decoder) compare(e *expr.Cmp) {
	l := d.regs[register(e.Register)]
	low, high := bytes.Repeat([]byte{0}, len(e.Data)), bytes.Repeat([]byte{0xff}, len(e.Data))
	switch e.Op {
	case expr.CmpOpEq, expr.CmpOpNeq:
		d.match(l, e.Op == expr.CmpOpNeq, exactly(e.Data))
	case expr.CmpOpLte, expr.CmpOpGt:
		d.match(l, e.Op == expr.CmpOpGt, span(low, e.Data))
	case expr.CmpOpGte, expr.CmpOpLt:
		d.match(l, e.Op == expr.CmpOpLt, span(e.Data, high))
	}
}

func (d *decoder) match(l load, not bool, ranges ...filters.Range) {
	if !l.known {
		d.unknown("a match of nft")
		return
	}
	d.add(filters.Match{Fields: []filters.Field{l.field}, Mask: l.mask, Any: ranges, Not: not})
}

// add adds a condition. It turns a condition on a link's index into one on its name,
// which users know and which a link that does not exist yet can have.
func (d *decoder) add(m filters.Match) {
	if len(m.Fields) == 1 && (m.Fields[0].Name == "iif" || m.Fields[0].Name == "oif") {
		m = d.named(m)
	}
	d.rule.Matches = append(d.rule.Matches, m)
	if d.engine == filters.NFTables || d.engine == filters.EBTablesNFT {
		d.words = append(d.words, m.String())
		return
	}
	d.flags.add(m)
}

// named is a condition on a link's index as one on its name.
func (d *decoder) named(m filters.Match) filters.Match {
	named := filters.Match{Fields: []filters.Field{{Name: m.Fields[0].Name + "name", Len: unix.IFNAMSIZ}}, Not: m.Not}
	for _, r := range m.Any {
		if len(r.Low) != 4 || !bytes.Equal(r.Low, r.High) {
			return filters.Match{}
		}
		if name, ok := d.linkNames()[nativeNumber(r.Low)]; ok {
			named.Any = append(named.Any, exactly(filters.LinkName(name)))
		}
	}
	return named
}

// lookup decodes a question to a set or to a map.
func (d *decoder) lookup(e *expr.Lookup) {
	set, err := d.set(d.key, e.SetName)
	if err != nil {
		d.err = err
		return
	}
	m := filters.Match{Not: e.Invert}
	complete := !set.unread
	if len(set.elements) > 0 {
		m.Fields, complete = d.gather(register(e.SourceRegister), len(set.elements[0].Low))
		complete = complete && !set.unread
	}
	for _, el := range set.elements {
		m.Any = append(m.Any, el.Range)
	}
	isMap := e.IsDestRegSet && e.DestRegister == unix.NFT_REG_VERDICT
	switch {
	case e.IsDestRegSet && !isMap: // data for a later expression
		d.regs[register(e.DestRegister)] = load{}
	case isMap && complete:
		d.branch, d.on = set.elements, m
	case isMap: // the packet may go anywhere
		d.unknown("a verdict map")
		d.rule.Verdict = filters.Unknown
	case !complete:
		d.unknown("set " + e.SetName)
	case len(set.elements) == 0:
		m.Fields = []filters.Field{{Name: filters.EtherType, Len: 2}} // of any field no value is in an empty set
		d.add(m)
	default:
		d.add(m)
	}
}

// gather lists the fields in size bytes of registers from a register on. It reports
// false if one of them is not understood.
func (d *decoder) gather(at, size int) ([]filters.Field, bool) {
	var fields []filters.Field
	for end := at + size; at < end; {
		l := d.regs[at]
		if !l.known || l.mask != nil {
			return nil, false
		}
		fields = append(fields, l.field)
		at += (l.field.Len + 3) &^ 3
	}
	return fields, true
}

// immediate decodes a verdict. Data for a later expression are left out.
func (d *decoder) immediate(data []byte) {
	for _, a := range nested(data) {
		if a.Type != unix.NFTA_IMMEDIATE_DATA {
			continue
		}
		for _, v := range nested(a.Data) {
			if v.Type == dataVerdict {
				d.rule.Verdict, d.rule.Chain = decodeVerdict(v.Data)
			}
		}
	}
}

// finish words the rule. A verdict map becomes one rule for each of its elements.
func (d *decoder) finish(chain string) []filters.Rule {
	if d.branch == nil {
		d.rule.Text = d.text(chain, d.rule)
		return []filters.Rule{d.rule}
	}
	var rules []filters.Rule
	for _, e := range d.branch {
		r := d.rule
		m := d.on
		m.Any = []filters.Range{e.Range}
		r.Matches = append(append([]filters.Match(nil), r.Matches...), m)
		r.Verdict, r.Chain = e.verdict, e.chain
		r.Text = d.text(chain, r, m.String())
		rules = append(rules, r)
	}
	return rules
}

// text is the rule as the program of its engine lists it.
func (d *decoder) text(chain string, r filters.Rule, more ...string) string {
	if d.engine == filters.IPTablesNFT {
		return d.flags.rule(chain, r, d.words)
	}
	words := append(append([]string(nil), d.words...), more...)
	if r.Verdict != filters.Continue {
		words = append(words, strings.TrimSpace(string(r.Verdict)+" "+r.Chain))
	}
	return implied.Replace(strings.Join(words, " "))
}

// implied are conditions on a protocol. nft leaves them out before a condition on the
// protocol's header.
var implied = strings.NewReplacer("meta l4proto tcp th ", "tcp ", "meta l4proto udp th ", "udp ")
