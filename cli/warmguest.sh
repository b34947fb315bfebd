# The part of the test guest that makes it one that can be booted for others (warmguest_test.go).
# It has the guest's end of qnet's agent (docs/protocol.md), and the programs by which qnet asks
# a distribution's system for its first boot and its links. Each does here what it is called for:
# "systemctl start networking" runs the DHCP client. Port 80 shows who the guest is. Its first
# boot writes to its disk, and ends as the kernel argument first= says. It runs in the test
# guest only: init.sh made that the first process.
[ -e /QNET-TEST-GUEST ] || exit 1
mkdir -p /run/cloud-init /var/lib/cloud/data /var/lib/cloud/instances/first /etc/ssh /dev/virtio-ports
echo first > /var/lib/cloud/data/instance-id
echo 0123456789abcdef0123456789abcdef > /etc/machine-id
echo 127.0.0.1 localhost > /etc/hosts
sed -i "s/ip addr flush/ip -4 addr flush/" /etc/udhcpc.sh # which takes IPv6 addresses as well
cat > /bin/online <<'END'
ip link set eth0 up
udhcpc -n -q -t 30 -T 1 -i eth0 -s /etc/udhcpc.sh > /dev/null 2>&1
{
	cat /proc/sys/kernel/hostname /sys/class/net/eth0/address
	ip -4 -o address show dev eth0 | awk '{ print $4 }'
	cat /etc/machine-id
	cat /etc/ssh/ssh_host_ed25519_key.pub 2>/dev/null || echo no key
	dd if=/dev/vda bs=1M skip=8 count=1 2>/dev/null | tr -d '\0'
	tail -c +5 $variable 2>/dev/null
} > /www/new
{ cat /proc/sys/kernel/hostname; echo wrote here; } | dd of=/dev/vda bs=1M seek=9 conv=fsync 2>/dev/null
mv /www/new /www/me
END
cat > /bin/systemctl <<'END'
#!/bin/sh
case "$*" in
"is-active -q networking") exit 0 ;;
is-active*) exit 1 ;;
"stop networking") rm -f /www/me ;;
"start --no-block networking") setsid sh /bin/online > /dev/null 2>&1 & ;;
esac
exit 0
END
cat > /bin/cloud-init <<'END'
#!/bin/sh
while [ ! -e /run/cloud-init/result.json ]; do sleep 1; done
[ "$first" = good ] || { echo "status: error"; echo "('scripts_user', RuntimeError('Runparts: 1 failures'))"; exit 1; }
END
printf '#!/bin/sh\ncat > /dev/urandom\n' > /bin/perl
chmod +x /bin/systemctl /bin/cloud-init /bin/perl
for arg in $(cat /proc/cmdline); do case $arg in first=*) export "$arg" ;; esac; done
# A variable of UEFI is its attributes (non-volatile, for the firmware and the system) and its value.
export variable=/sys/firmware/efi/efivars/Qnet-12345678-1234-1234-1234-123456789abc
mount -t efivarfs none /sys/firmware/efi/efivars 2>/dev/null
httpd -p 80 -h /www
for port in /sys/class/virtio-ports/*; do
	read -r name < "$port/name"
	[ "$name" != qnet.agent ] || ln -s "/dev/${port##*/}" /dev/virtio-ports/qnet.agent
done
{
	sh /bin/online
	sleep 2
	echo "first boot" | dd of=/dev/vda bs=1M seek=8 conv=fsync 2>/dev/null
	[ ! -d /sys/firmware/efi ] || [ -e $variable ] || printf '\7\0\0\0of the first boot' > $variable
	echo {} > /run/cloud-init/result.json
	echo "the first boot is over"
} &
exec 3<>/dev/virtio-ports/qnet.agent
while read -r id script <&3; do
	said=$(echo "$script" | base64 -d | sh 2>/dev/null 3>&-)
	status=$?
	[ -z "$said" ] || said=$(printf %.300s "$said" | base64 | tr -d '\n')
	echo "$id $status $said" >&3
done
