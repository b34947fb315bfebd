package programs

import "github.com/qnet-vm/qnet/internal/lab"

// KillSwitch is a filter as a VPN client loads it to keep all traffic in its tunnel:
// tables, chains and hooks are named and placed as the client's, the rules are ours.
type KillSwitch struct {
	Program string // as a note must name it
	Script  string // loads it
	Passes  bool   // guests reach the outside all the same: it knows no forwarding
}

// KillSwitchNeeds are what the scripts need.
var KillSwitchNeeds = []lab.Need{lab.Root, lab.Program("nft"), lab.Program("iptables")}

// KillSwitches are those of some clients, with the tunnel wg0 and the server 192.0.2.1.
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
