"""What can be built for: one data file each in ``toolchain/targets``."""
