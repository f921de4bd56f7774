#!/bin/sh
# Mounts a new ext4 file system: mounted_image.sh IMAGE FOLDER. Prints `mounted`, or the reason why it can't. Then it reads
# `freeze` and `thaw` from standard input, and prints each word once it is done.
#
# At the end of the input, also if its parent was killed, it thaws and unmounts the file system. A process with a call that
# the kernel holds can't end before, even if it is killed. So this program ignores the signals that end its parent.
set -eu
exec 2>&1
trap '' HUP INT TERM
PATH=$PATH:/usr/sbin:/sbin
image=$1 folder=$2

# A program that still uses the file system keeps it until it ends.
leave() {
  fsfreeze --unfreeze "$folder" > /dev/null 2>&1 || true
  umount --lazy "$folder" || true
  rm -f "$image"
}

mkdir -p "$folder"
truncate -s 256M "$image"
trap 'rm -f "$image"' EXIT
mkfs.ext4 -q -F "$image"
mount -o loop "$image" "$folder"
trap leave EXIT
echo mounted
while read -r action; do
  # If nothing were mounted there, the file system of the whole machine would freeze.
  mountpoint -q "$folder"
  case $action in
    freeze) fsfreeze --freeze "$folder" ;;
    thaw) fsfreeze --unfreeze "$folder" ;;
  esac
  echo "$action"
done
