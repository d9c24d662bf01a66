"""A command that the warm process runs: ``warm.Warm`` makes fairseq's commands of this file.

It is started a hundred times, so that it imports nothing that takes long.
"""

import json
import os
import signal
import socket
import sys

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def ask(path, words, cwd, environment, streams):
    """Have the warm process at a socket start a command; return the connection.

    A byte sent there is a signal for the command, an end of the connection is SIGKILL; the
    answer is the exit code as text.

    Args:
        streams: descriptors of its input, output and errors.
    """
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    ignored = [int(number) for number in SIGNALS if signal.getsignal(number) == signal.SIG_IGN]
    request = {"words": words, "cwd": cwd, "environment": environment, "ignored": ignored}
    line = json.dumps(request).encode() + b"\n"
    sent = socket.send_fds(connection, [line], streams)
    connection.sendall(line[sent:])
    return connection


def main():
    """Be the command, as whoever started it sees it."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    words = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
    connection = ask(f"{folder}/socket", words, os.getcwd(), dict(os.environ), [0, 1, 2])
    for number in SIGNALS:
        signal.signal(number, lambda caught, frame: connection.send(bytes([caught])))
    code = int(connection.makefile().read() or 1)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
