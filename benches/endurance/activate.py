"""Starts a program as systemd starts a service with sockets (sd_listen_fds(3)): what a restart leaves open.

    activate.py FD[,FD...] PROGRAM ARGUMENTS...

The sockets stay open in whoever starts this, so that the kernel goes on taking connections while no gate runs.
"""

import os
import sys


def main():
    # Copies far above all of the targets first: one may stand where another has to go.
    given = [int(fd) for fd in sys.argv[1].split(",")]
    for at, fd in enumerate(given):
        os.dup2(fd, 200 + at, inheritable=False)
    targets = [os.dup2(200 + at, 3 + at, inheritable=True) for at in range(len(given))]
    for fd in set(given) - set(targets):
        os.close(fd)
    # Ours, for exec keeps the number: systemd too names the process that is to take them.
    os.environ |= {"LISTEN_FDS": str(len(targets)), "LISTEN_PID": str(os.getpid())}
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
