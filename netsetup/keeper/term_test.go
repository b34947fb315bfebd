package keeper_test

import (
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// deafTo are the signals that end neither a keeper nor a watchdog while VMs run.
var deafTo = []syscall.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGVTALRM,
	unix.SIGPROF, unix.SIGXCPU, unix.SIGXFSZ, unix.SIGIO, unix.SIGPWR, unix.SIGWINCH, unix.SIGCHLD, unix.SIGURG, unix.SIGTSTP,
	unix.SIGTTIN, unix.SIGTTOU, unix.SIGSTOP, unix.SIGCONT, 35, 64,
}

// A keeper whose VMs and whose starter live goes on, whatever it gets but SIGKILL and the
// signals of a crash. It says so once, and ends with its last VM.
func TestKeeperOutlivesSignals(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		notes := make(chan Note, 100)
		told := o
		told.Note = func(n Note) { notes <- n }
		n := Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}
		web := mustJoin(t, told, n, "web", port(1))
		lab.Guest(t, "vm1", "qn-dev", "10.77.0.9/24", "10.77.0.1")
		stop := lab.PingFrom(t, "vm1", "203.0.113.1")
		for range 2 {
			for _, s := range deafTo {
				if err := unix.Kill(web.Info().KeeperPID, s); err != nil {
					t.Fatal(err)
				}
			}
		}
		var said Note
		lab.Eventually(t, 5*time.Second, "a note", func() bool {
			select {
			case said = <-notes:
			default:
			}
			return said.Subject != ""
		})
		if said.Subject != "network dev" || said.Text != "the keeper of network dev got SIGTERM and goes on: VMs use the network (qnet stop ends them)" {
			t.Errorf("got %+v", said)
		}
		mustLeave(t, mustJoin(t, o, n, "db", port(2)))
		if pings := stop(); pings.Lost > 0 {
			t.Error(pings)
		}
		infos, err := List(t.Context(), o.RunDir)
		if err != nil || len(infos) != 1 || infos[0].KeeperPID != web.Info().KeeperPID || len(notes) > 0 {
			t.Errorf("got %+v, %v, and %d more notes", infos, err, len(notes))
		}
		lab.Sh(t, "ip link del vvm1; ip netns del vm1")
		mustLeave(t, web)
	})
}
