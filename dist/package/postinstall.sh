#!/bin/sh
# Runs when the package's files are there. A deb's argument is "configure", an rpm's
# the number of versions that are there now. Nothing that fails is worth a package that is
# half installed: there is no set -e.
set -u

case ${1-} in
configure | abort-* | [1-9]*) ;;
*) exit 0 ;;
esac
command -v systemctl >/dev/null || exit 0

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	# An update. It does not wait: flanneld is ready once etcd answers.
	systemctl --no-block try-restart flanneld.service
fi

unit=/etc/systemd/system/flanneld.service
if [ "$(readlink "$unit")" = /dev/null ]; then
	echo "flanneld is not started: its unit is masked. To allow it, type: systemctl unmask flanneld"
elif [ -e "$unit" ]; then
	echo "flanneld: $unit is there, and systemd uses it in place of the package's unit."
elif ! systemctl --quiet is-enabled flanneld.service 2>/dev/null; then
	echo "flanneld is not started. Set this host's values in /etc/flanneld.env, then type: systemctl enable --now flanneld"
fi
exit 0
