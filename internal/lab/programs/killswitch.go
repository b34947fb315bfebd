package programs

import "github.com/qnet-vm/qnet/internal/lab"

// KillSwitch is a filter such as a VPN client loads to keep all traffic in its tunnel.
// Tables, chains and hooks have the names and places of the client's. The rules are ours.
type KillSwitch struct {
	Program string // the name that a note must have
	Script  string // loads it
	Passes  bool   // guests reach the outside, because it does not filter what is forwarded
}

// KillSwitchNeeds are what the scripts need.
var KillSwitchNeeds = []lab.Need{lab.Namespaces, lab.Program("nft"), lab.Program("iptables")}

// KillSwitches are the kill-switches of some clients, whose server is 192.0.2.1.
var KillSwitches = []KillSwitch{
	{Program: "Mullvad VPN", Script: `nft -f - <<'EOF2'
table inet mullvad {
	chain input { type filter hook input priority 0; policy drop; iifname { "lo", "wg0-mullvad" } accept; udp sport 67 udp dport 68 accept; ip saddr 192.0.2.1 accept; }
	chain output { type filter hook output priority 0; policy drop; oifname { "lo", "wg0-mullvad" } accept; udp dport 67 accept; ip daddr 192.0.2.1 accept; reject; }
	chain forward { type filter hook forward priority 0; policy drop; oifname "wg0-mullvad" accept; iifname "wg0-mullvad" ct state established accept; reject; }
}
EOF2`},
	{Program: "Cloudflare WARP", Script: `nft -f - <<'EOF2'
table inet cloudflare-warp {
	chain input { type filter hook input priority 0; policy drop; iif "lo" accept; iifname "CloudflareWARP" accept; ct state established accept; }
	chain output { type filter hook output priority 0; policy drop; oif "lo" accept; oifname "CloudflareWARP" accept; ip daddr 192.0.2.1 accept; }
}
EOF2`, Passes: true},
	{Program: "NordVPN", Script: `nft -f - <<'EOF2'
table inet nordvpn {
	chain prerouting { type filter hook prerouting priority -200; policy accept; }
	chain postrouting { type filter hook postrouting priority 0; policy drop; oifname { "lo", "nordlynx" } accept; ip daddr 192.0.2.1 accept; }
	chain forward { type filter hook forward priority 0; policy drop; oifname "nordlynx" accept; ct state established accept; }
}
EOF2`},
	{Program: "NordVPN", Script: `
for f in INPUT OUTPUT FORWARD; do iptables -I $f -m comment --comment nordvpn -j DROP; done
iptables -I INPUT -i nordtun -m comment --comment nordvpn -j ACCEPT; iptables -I OUTPUT -o nordtun -m comment --comment nordvpn -j ACCEPT`},
	{Program: "IVPN", Script: `
for c in IN OUT FORWARD; do iptables -N IVPN-$c; iptables -A IVPN-$c -i lo -j ACCEPT 2> /dev/null || true; iptables -A IVPN-$c -j DROP; done
iptables -I INPUT -j IVPN-IN; iptables -I OUTPUT -j IVPN-OUT; iptables -I FORWARD -j IVPN-FORWARD`},
}
