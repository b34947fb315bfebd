# files.py FOLDER measures files in a folder, which it makes and empties. It prints how fast a
# file of 64 MiB is written, up to fsync, and read, in MB/s, and how many files in a second are
# made with 4 KiB each, looked at, read and removed. What is read is not in this kernel's memory.
import os
import sys
import time

folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
block = os.urandom(1 << 20)
blocks, count = 64, 500


def timed(work):
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


def path(name):
    return os.path.join(folder, str(name))


def write():
    with open(path("large"), "wb", buffering=0) as f:
        for _ in range(blocks):
            f.write(block)
        os.fsync(f.fileno())


def read():
    with open(path("large"), "rb", buffering=0) as f:
        while f.read(len(block)):
            pass


def make():
    for i in range(count):
        with open(path(i), "wb", buffering=0) as f:
            f.write(block[:4096])


def use():
    for i in range(count):
        os.stat(path(i))
        with open(path(i), "rb", buffering=0) as f:
            f.read()
        os.remove(path(i))


size = blocks * len(block) / 1e6
print(size / timed(write), size / timed(read), count / (timed(make) + timed(use)))
os.remove(path("large"))
