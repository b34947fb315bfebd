package forwards

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

// The user behind sudo may change a VM's forwards, but gets no port by root's keeper that the
// kernel would refuse that user.
func TestAddRefusesOthersPorts(t *testing.T) {
	f := &Forwards{Profile: &profiles.Profile{NICs: []profiles.NIC{{Mode: profiles.NAT, Network: "dev"}}}}
	args, err := json.Marshal(control.ForwardArgs{Ports: []string{"127.0.0.1:8080:80", "127.0.0.1:1:80"}})
	if err != nil {
		t.Fatal(err)
	}
	err = f.Add(control.AskedBy(t.Context(), 1000), nil, args)
	failed, typed := errors.AsType[*keeper.ForwardError](err)
	if !typed || failed.Forward.Port != 1 || !errors.Is(err, host.ErrRefused) {
		t.Errorf("got %v", err)
	}
}
