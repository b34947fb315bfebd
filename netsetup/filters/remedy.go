package filters

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// Remedy is what the user can do about drops that qnet leaves alone.
type Remedy struct {
	Commands []string // for a shell; all of them are needed
	Advice   string   // what to do instead of Commands or, beside them, what to add to them
	Purpose  string   // of Commands, if it is not "to let it pass"
}

// String is the remedy as a command line to copy or as advice, without other words.
func (r Remedy) String() string { return r.join("") }

// Sentence is the remedy as the end of a sentence, with its commands in backquotes.
func (r Remedy) Sentence() string {
	if len(r.Commands) == 0 {
		return r.Advice
	}
	return fmt.Sprintf("qnet does not edit its rules: %s, run %s", cmp.Or(r.Purpose, "to let it pass"), r.join("`"))
}

func (r Remedy) join(quote string) string {
	var commands []string
	for _, c := range r.Commands {
		commands = append(commands, quote+c+quote)
	}
	return strings.TrimSpace(strings.Join(commands, " and ") + " " + r.Advice)
}

// evidence says which program drops what, and where.
func evidence(drops []Drop) string {
	d := drops[0]
	text := fmt.Sprintf("%s (%s) drops %s", d.Program, d.where(), packets(drops))
	if d.KillSwitch {
		text += ": blocked on purpose by " + d.Program + " to keep all traffic in its tunnel"
	}
	return text
}

// where says which rule or policy it is.
func (d Drop) where() string {
	return fmt.Sprintf("%s, table %s %s, chain %s%s", d.Engine, d.Family, d.Table, d.Chain, d.reason())
}

func (d Drop) reason() string {
	if d.Policy() {
		return ", policy drop"
	}
	return ": " + d.Rule
}

// packets lists the dropped packets, each once. It leaves out the reply to a packet
// that is dropped itself.
func packets(drops []Drop) string {
	var names []string
	for _, d := range drops {
		if !slices.Contains(names, d.Packet) && !slices.Contains(names, d.PacketText()) {
			names = append(names, d.PacketText())
		}
	}
	if len(names) == 1 {
		return names[0]
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// remedy is what lets the dropped packets pass.
func (n Promise) remedy(r Ruleset, drops []Drop) Remedy {
	d := drops[0]
	if d.KillSwitch {
		return Remedy{Advice: "allow local network sharing (or a split tunnel) in its settings"}
	}
	var remedy Remedy
	for _, p := range r.Packets(n) {
		dropped := slices.ContainsFunc(drops, func(e Drop) bool { return e.Packet == p.Name && e.Reply == p.Reply })
		if !dropped {
			continue
		}
		for _, t := range p.Passes {
			if c := n.command(d, t); !slices.Contains(remedy.Commands, c) {
				remedy.Commands = append(remedy.Commands, c)
			}
		}
	}
	if d.Engine == EBTablesNFT {
		remedy.Advice = "with what it is to match"
	}
	return remedy
}

// command is what an administrator runs to let the traffic pass a drop.
func (n Promise) command(d Drop, t Traffic) string {
	switch {
	case d.Engine == IPTablesNFT || d.Engine == IPTablesLegacy:
		return AcceptRule{Engine: d.Engine, Family: d.Family, Table: d.Table, Chain: d.Base, Spec: t.spec(n.Name)}.Command("-I")
	case d.Program == firewalld && n.Joined: // the default zone forwards between its links
		return "firewall-cmd --add-interface=" + n.Bridge
	case d.Program == firewalld:
		return "firewall-cmd --zone=trusted --change-interface=" + n.Bridge
	case d.Engine == EBTablesNFT:
		return fmt.Sprintf("ebtables -t %s -I %s -j ACCEPT", d.Table, d.Base)
	}
	match := t.nft()
	if d.Family == nft.Bridge || d.Family == nft.NetDev { // their links are ports, which do not tell the bridge
		match = "accept"
	}
	return fmt.Sprintf("nft insert rule %s %s %s %s", d.Family, d.Table, d.Base, match)
}
