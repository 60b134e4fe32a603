#!/usr/bin/env bash
# Boots systemd as it is installed here, in namespaces of its own, with the package on top, and uses the service there.
#
#   boot.sh PACKAGE PUBLIC_KEY OUTPUT
#
# Everything it writes goes to memory that is gone with it; its network has nothing but itself; its control groups are
# removed. What the steps print is in OUTPUT/log. Needs root.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
package=$(realpath "$1") key=$(realpath "$2") output=$(realpath "$3")

if [ -z "${BOOT_INSIDE:-}" ]; then
  # A mount namespace first, to have the control groups where they can be removed afterwards.
  [ -n "${BOOT_OUTSIDE:-}" ] || exec env BOOT_OUTSIDE=1 unshare --mount "$here/boot.sh" "$@"
  mount -t tmpfs boot /mnt
  mkdir /mnt/groups /mnt/boot
  mount -t cgroup2 groups /mnt/groups
  group=$(mktemp -d /mnt/groups/wsgw-boot-XXXXXX)
  BOOT_INSIDE=1 setsid unshare --fork --kill-child --pid --mount --uts --ipc --net "$here/boot.sh" "$@" "$group" </dev/null >"$output/boot" 2>&1 &
  booted=$!
  for _ in $(seq 600); do
    if [ -e "$output/done" ] || ! kill -0 "$booted" 2>/dev/null; then break; fi
    sleep 0.1
  done
  kill -KILL "$booted" 2>/dev/null || true
  wait "$booted" 2>/dev/null || true
  for _ in $(seq 50); do
    find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && break
    sleep 0.1
  done
  [ -e "$output/done" ]
  exit
fi

group=$4
echo $$ >"$group/cgroup.procs"
[ -n "${BOOT_GROUPS:-}" ] || exec env BOOT_GROUPS=1 unshare --cgroup "$here/boot.sh" "$@"
root=/mnt/boot
mount -t tmpfs boot "$root"
mkdir "$root"/{root,upper,work}
mount -t overlay boot -o "lowerdir=/,upperdir=$root/upper,workdir=$root/work" "$root/root"
cd "$root/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 groups sys/fs/cgroup
mount -t tmpfs run run
mount -t tmpfs tmp tmp
mount --rbind /dev dev
mkdir -p media/output former
mount --bind "$output" media/output

dpkg-deb --extract "$package" .
install -d -m 700 etc/wsgw/secrets
cp "$key" etc/wsgw/secrets/JWT_PUBLIC_KEY
echo a-long-key-of-the-package >etc/wsgw/secrets/GATEWAY_API_KEY
sed -i 's/^#\(JWT_PUBLIC_KEY_FILE\|GATEWAY_API_KEY_FILE\)/\1/' etc/wsgw/wsgw.env
cp "$here/steps.sh" media/steps.sh
cat >etc/systemd/system/boot.target <<'UNIT'
[Unit]
DefaultDependencies=no
Wants=steps.service
UNIT
cat >etc/systemd/system/steps.service <<'UNIT'
[Unit]
Wants=wsgw.service
After=wsgw.service
[Service]
Type=oneshot
ExecStart=/bin/bash /media/steps.sh
UNIT

# Not chroot: who stands in one may not make the namespaces that the unit asks for.
pivot_root . former
cd /
umount -l /former
mount --make-rshared /
export container=docker
exec /lib/systemd/systemd --unit=boot.target --log-target=null --show-status=0
