"""Three processes of the shop of admin_fastapi.py on one store. Now and then one is killed, and comes back.

    python examples/demo.py              # Then open the address that it prints. Ctrl-C stops all of them.
    python examples/demo.py --port 8000 --every 20

The first process is never killed, so that its dashboard stays. The others show how tasks are taken over: look at the
instances, and at the runs of the task "bill", which runs in one process at a time.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHOP = Path(__file__).with_name("admin_fastapi.py")
AWAY_S = 5.0  # Until a process that was killed comes back.


class Shop:
    """One process of the shop."""

    def __init__(self, directory: str, port: int) -> None:
        self.port = port
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {**os.environ, "PORT": str(self.port), "STORE": "sqlite:///demo.db"}
        with Path(self._directory, f"{self.port}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(SHOP)], cwd=self._directory, env=environment, stdout=log, stderr=log
            )

    def end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def wait(self) -> None:
        if self._process is not None:
            self._process.wait()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def kill_now_and_then(shops: list[Shop], every_s: float) -> None:
    while True:
        for shop in shops:
            time.sleep(every_s)
            shop.end(signal.SIGKILL)
            shop.wait()
            say(f"the process at port {shop.port} was killed: the others take over its cluster tasks")
            time.sleep(AWAY_S)
            shop.start()
            say(f"the process at port {shop.port} is back")


def main() -> None:
    parser = argparse.ArgumentParser(description="Run three processes of a shop on one store; Ctrl-C stops them.")
    parser.add_argument("--port", type=int, default=0, help="first of three ports (default: any free ones)")
    parser.add_argument("--every", type=float, default=30, help="seconds between two kills (default: 30)")
    options = parser.parse_args()
    ports = [options.port + i if options.port else free_port() for i in range(3)]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Stop as at Ctrl-C.
    with tempfile.TemporaryDirectory() as directory:
        shops = [Shop(directory, port) for port in ports]
        try:
            for shop in shops:
                shop.start()
            say(f"dashboard: http://127.0.0.1:{ports[0]}/ (log in as olga, who operates, or ron, who only reads)")
            say(f"the other processes: ports {ports[1]} and {ports[2]}; logs are in {directory}")
            kill_now_and_then(shops[1:], options.every)
        except KeyboardInterrupt:
            say("stopping")
        finally:
            for shop in shops:
                shop.end(signal.SIGTERM)
            for shop in shops:
                shop.wait()


if __name__ == "__main__":
    main()
