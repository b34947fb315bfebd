package qemu

import (
	"github.com/qnet-vm/qnet/internal/agent"
	"github.com/qnet-vm/qnet/internal/guestagent"
	"github.com/qnet-vm/qnet/qemu/machine"
)

// agents are what has a guest do things for its host; each is nil where the config has none.
type agents struct {
	own  *agent.Conn
	qemu *guestagent.Conn
}

// giveAgents connects those that the config has. On an error the caller closes what there is.
func giveAgents(p *machine.Prepared) (a agents, err error) {
	if p.Agent {
		conn, theirs, err := socketpair("agent")
		if err != nil {
			return a, err
		}
		p.GiveAgent(theirs)
		a.own = agent.New(conn)
	}
	if p.GuestAgent {
		conn, theirs, err := socketpair("guest agent")
		if err != nil {
			return a, err
		}
		p.GiveGuestAgent(theirs)
		a.qemu = guestagent.New(conn)
	}
	return a, nil
}

func (a agents) close() {
	_ = a.own.Close() // nothing is written that would be lost
	_ = a.qemu.Close()
}

// Agent returns what has the guest do things for its host, nil if the config has none. It
// ends with the process.
func (v *VM) Agent() *agent.Conn { return v.agents.own }

// GuestAgent is Agent for QEMU's guest agent.
func (v *VM) GuestAgent() *guestagent.Conn { return v.agents.qemu }
