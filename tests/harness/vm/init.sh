#!/bin/busybox sh
# The guest's first process: modules, the machine's own root below a layer in memory, the network, a disk, and the agent.
b=/bin/busybox
fail() { echo "windlass-init: $*"; $b poweroff -f; }
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
for word in $($b cat /proc/cmdline); do
  case $word in windlass.*=*) eval "$(echo "${word#windlass.}" | $b sed "s/=\(.*\)/='\1'/")" ;; esac
done
load() {
  for module in $($b cat "/modules/$1"); do
    case $module in
    rbd.ko) $b insmod "/modules/$module" single_major=Y ;;
    *) $b insmod "/modules/$module" ;;
    esac || fail "cannot load $module"
  done
}
load first
# The larger half on the second processor, while this one looks for the root.
load second &

# The machine that runs the tests is below, read-only; whatever the guest writes is in memory, and its own.
$b mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=524288,cache=loose root /lower || fail "no root"
$b mount -t tmpfs upper /upper
$b mkdir /upper/files /upper/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work root /new || fail "no layer over the root"
$b mount -t proc proc /new/proc
$b mount -t sysfs sysfs /new/sys
$b mount -t devtmpfs devtmpfs /new/dev
$b mkdir -p /new/dev/pts /new/dev/shm /new/disk /new/var/lib/windlass /new/var/lib/kubelet /new/etc/windlass "/new/lib/modules/$version"
$b mount -t devpts devpts /new/dev/pts
for folder in dev/shm run tmp var/tmp; do $b mount -t tmpfs tmpfs "/new/$folder"; done
$b mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
$b mount -t securityfs securityfs /new/sys/kernel/security
$b mount -t debugfs debugfs /new/sys/kernel/debug
$b mount -o bind "/new$modules" "/new/lib/modules/$version" || fail "no modules at $modules"

# What must outlive a power cut is on a disk.
$b mount -t ext4 -o noinit_itable /dev/vda /new/disk || fail "no disk"
for folder in var/lib/windlass var/lib/kubelet etc/windlass; do
  $b mkdir -p "/new/disk/$folder"
  $b mount -o bind "/new/disk/$folder" "/new/$folder"
done

wait
$b ip link set lo up
$b ip link set eth0 up
$b ip addr add "$address/24" dev eth0
$b hostname "$name"
echo "127.0.0.1 localhost $name" >/new/etc/hosts
$b cp /agent /new/run/agent
# A shell stays the first process: it reaps what nobody waits for.
exec $b switch_root /new /bin/busybox sh -c '/run/agent </dev/null & wait; echo "windlass-init: the agent ended"; poweroff -f'
