#!/bin/sh
# Runs before the package's files go. A deb's argument is "remove", an rpm's the number
# of versions that stay. With an update flanneld goes on until postinstall restarts it.
# Nothing that fails is worth a package that cannot be removed: there is no set -e.
set -u

case ${1-} in
remove | 0) ;;
*) exit 0 ;;
esac
command -v systemctl >/dev/null || exit 0

if [ -d /run/systemd/system ]; then systemctl stop flanneld.service; fi
systemctl --quiet disable flanneld.service
exit 0
