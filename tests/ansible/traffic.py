"""Asks one URL again and again, a new connection each time, until its stdin ends; prints how many requests were sent, how many failed."""

import http.client
import select
import sys
import time


def main(host: str, port: str) -> None:
    sent, failures = 0, []
    print("started", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        sent += 1
        try:
            connection.request("GET", "/")
            status = connection.getresponse().status
            if status != 200:
                failures.append(str(status))
        except (OSError, http.client.HTTPException) as error:
            failures.append(type(error).__name__)
            time.sleep(0.05)
        finally:
            connection.close()
        time.sleep(0.005)
    print(sent, len(failures), ",".join(sorted(set(failures))))


if __name__ == "__main__":
    main(*sys.argv[1:])
