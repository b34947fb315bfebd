package host

import "testing"

func TestMarks(t *testing.T) {
	if network, vm, nic, ok := ParsePortMark(PortMark("dev", "web", 3)); !ok || network != "dev" || vm != "web" || nic != 3 {
		t.Errorf("got %q, %q, %t", network, vm, ok)
	}
	for _, alias := range []string{"", "qnet:dev", "qnet:dev/web", "other:dev/web/0", "qnet:dev/web/0/1"} {
		if _, _, _, ok := ParsePortMark(alias); ok {
			t.Errorf("%q counts as the mark of a port", alias)
		}
	}
	if !(Link{Alias: NetworkMark("dev")}).Ours() || !(Link{Alias: PortMark("dev", "web", 0)}).Ours() || (Link{Alias: "mine"}).Ours() {
		t.Error("a link is not known by its mark")
	}
}

func TestSysctlKeys(t *testing.T) {
	if link, ok := ForwardingLink(ForwardingKey("eth0.7")); !ok || link != "eth0.7" {
		t.Errorf("got %q, %t", link, ok)
	}
	for _, key := range []string{IPForward, RPFilterKey("eth0"), GenModeKey("eth0"), DisableIPv6Key("eth0")} {
		if link, ok := ForwardingLink(key); ok {
			t.Errorf("%s is the forwarding of %q", key, link)
		}
	}
	if got := (LinkSysctl{Dir: "net/ipv4/conf", Name: "accept_local"}).Key("eth0"); got != "net/ipv4/conf/eth0/accept_local" {
		t.Errorf("got %s", got)
	}
	if TableName("dev") != "qnet_dev" {
		t.Errorf("got %s", TableName("dev"))
	}
}
