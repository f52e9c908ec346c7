#!/bin/sh
# Runs when the package's files are gone. A deb's argument is "remove", and "purge" when
# its settings go too; an rpm's is the number of versions that stay. Nothing that fails, as
# a volume at /var/lib/flannel does not go, is worth a package that cannot be removed: there is
# no set -e.
set -u

case ${1-} in
remove | purge | 0) ;;
*) exit 0 ;;
esac

docker=/etc/systemd/system/docker.service.d/flannel.conf
if [ "$1" = purge ]; then
	rm -rf /var/lib/flannel /run/flannel
	# The link to the package's file, which is gone.
	if [ -L "$docker" ] && [ ! -e "$docker" ]; then rm -f "$docker"; fi
fi
if [ -d /run/systemd/system ] && command -v systemctl >/dev/null; then
	systemctl daemon-reload
fi
[ "$1" != purge ] || exit 0

cat <<'END'
flanneld is stopped and removed. Its routes, devices and firewall rules stay until a reboot, so containers
reach other hosts as before. To take this host out of the network now, type:
    ip nexthop flush proto 77
    ip route flush proto 77
    ip -6 route flush proto 77
    ip -o link | sed -n 's/^[0-9]*: \([^:@]*\).*\\ *alias flanneld$/\1/p' | xargs -r -n 1 ip link del
    nft delete table ip flanneld
    nft delete table ip6 flanneld
    iptables-save | grep -v -e '--comment "\?flanneld"\?' | iptables-restore
    ip6tables-save | grep -v -e '--comment "\?flanneld"\?' | ip6tables-restore
END
settings=/etc/flanneld.env
if [ "$1" = 0 ]; then settings=$settings.rpmsave; fi # where rpm puts what was edited
echo "Its settings stay too, in $settings and /etc/flanneld, and its subnet in /var/lib/flannel."
# docker would wait for flanneld for ever. A link to the package's file says nothing any more.
if [ -e "$docker" ]; then
	echo "docker does not start without flanneld as long as $docker is there. Remove it: rm $docker; systemctl daemon-reload"
fi
exit 0
