#!/bin/sh
# First process of the virtual board: devices, disk, network; then busybox init takes over.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev
busybox mkdir -p /dev/pts /dev/shm
busybox mount -t devpts devpts /dev/pts
for folder in /run /dev/shm /tmp; do
    busybox mount -t tmpfs tmpfs $folder
done
busybox chmod 1777 /tmp /dev/shm
# sshd refuses every key when / or a home can be written by others, and an initramfs's / can.
busybox chmod 755 / /root
busybox --install -s /bin
mkdir -p /run/sshd
hostname edgequant-virtual
for module in $(cat /lib/modules/order); do
    insmod /lib/modules/$module || echo "edgequant: module $module failed"
done
if ! mount -t ext4 -o noatime /dev/vda /data; then
    echo "edgequant: the data disk cannot be mounted"
fi
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
# Without entropy sshd would wait; virtio-rng gives it at once.
echo "edgequant: init done"
exec busybox init
