#!/bin/sh
# The test guest's init. Kernel arguments it understands:
#   qnet.netN=ADDRESS/PREFIX[,GATEWAY] | dhcp | up   what eth N gets
#   qnet.host=NAME       host name
#   qnet.httpd           serve "hello from the guest" on port 80
#   qnet.run=BASE64      run a shell script, framed by QNET-BEGIN and QNET-END rc=N
#   qnet.poweroff        then power off
#   qnet.shell           then a shell on the console
/bin/busybox mkdir -p /bin /sbin
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
echo 1 > /proc/sys/kernel/printk
for m in /lib/*.ko; do insmod "$m" 2>/dev/null; done
ip link set lo up

cat > /etc/udhcpc.sh <<'EOF'
#!/bin/sh
case $1 in
bound|renew)
	ip addr flush dev $interface
	ip addr add $ip/$mask dev $interface
	[ -n "$router" ] && ip route replace default via ${router%% *}
	: > /etc/resolv.conf
	[ -n "$domain" ] && echo "search $domain" >> /etc/resolv.conf
	for d in $dns; do echo "nameserver $d" >> /etc/resolv.conf; done
	[ -n "$hostname" ] && hostname "$hostname"
	;;
esac
EOF
chmod +x /etc/udhcpc.sh

httpd=; run=; then=
for arg in $(cat /proc/cmdline); do
	case $arg in
	qnet.net*=*)
		dev=eth${arg#qnet.net}; dev=${dev%%=*}
		value=${arg#*=}
		ip link set $dev up
		case $value in
		up) ;;
		dhcp) udhcpc -n -t 10 -T 1 -i $dev -O hostname -s /etc/udhcpc.sh > /dev/null 2>&1 ;;
		*)
			ip addr add ${value%%,*} dev $dev
			case $value in *,*) ip route add default via ${value#*,} ;; esac
			;;
		esac ;;
	qnet.host=*) hostname ${arg#*=} ;;
	qnet.httpd) httpd -p 80 -h /www ;;
	qnet.run=*) run=${arg#*=} ;;
	qnet.poweroff) then=poweroff ;;
	qnet.shell) then=shell ;;
	esac
done

# File systems are written and made read-only, like those of a system that shuts down. The
# kernel does so in the background, so the guest waits for it, 5 s at most.
halt() {
	echo u > /proc/sysrq-trigger
	for try in $(seq 100); do
		grep -q '^/dev/.* rw[, ]' /proc/mounts || break
		sleep 0.05
	done
	poweroff -f
}

# QMP's system_powerdown presses the power button. Any input event counts as that.
for event in /dev/input/event*; do
	[ -e "$event" ] || continue
	exec 3< "$event" # open before QMP can press the button
	(head -c 1 <&3 > /dev/null; halt) &
	exec 3<&-
done

exec < /dev/ttyS0 > /dev/ttyS0 2>&1
if [ -n "$run" ]; then
	echo "$run" | base64 -d > /run.sh
	echo QNET-BEGIN
	sh /run.sh
	echo "QNET-END rc=$?"
fi
case $then in
poweroff) poweroff -f ;;
shell)
	echo "qnet test guest: poweroff -f ends it"
	setsid -c sh
	poweroff -f ;;
esac
while :; do sleep 1000; done
