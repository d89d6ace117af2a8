"""A virtual ARM board: qemu, a Debian kernel, a real sshd, one image made without root."""
