"""Engines that misbehave: programs that speak the event protocol, until they do not.

The real engine cannot be made to ignore a signal or to write half a line; these can.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

_SOURCE = """
import json, os, signal, sys, time
sys.path[:0] = [{root!r}, {tests!r}]
import recorded
from anvil_engine import results
from anvil_web.clock import utcnow

number = 0
def say(event):
    global number
    number += 1
    print(json.dumps(results.encode(event, number, utcnow())), flush=True)

def begin():
    for event in recorded.whole_run()[:3]:
        say(event)

def wait():
    while True:
        time.sleep(0.05)

{body}
"""

BODIES = {
    "good": "for event in recorded.whole_run(): say(event)",
    "obedient": """
def stop(*_):
    partial = recorded.complete(0).result
    say(results.RunAborted(reason="aborted by user", partial=partial)); os._exit(130)
signal.signal(signal.SIGTERM, stop)
begin(); wait()
""",
    "deaf": "signal.signal(signal.SIGTERM, signal.SIG_IGN); begin(); wait()",
    "dies": """
begin(); print("a reason\\0on stderr", file=sys.stderr, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
""",
    "exits": 'begin(); sys.exit("anvil: " + "x" * 9000 + " the end")',
    "mid line": 'begin(); sys.stdout.write(\'{"n": 4, "ts"\'); sys.stdout.flush(); os._exit(3)',
    "garbage": 'begin(); print("not an event", flush=True); wait()',
    "endless line": 'begin(); sys.stdout.write("x" * (5 << 20)); sys.stdout.flush(); wait()',
    "gap": "begin(); number += 1; say(recorded.sample(0, 1)); wait()",
    "lingers": """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for event in recorded.whole_run(): say(event)
time.sleep(1.0)
""",
    "says failed": 'begin(); say(results.RunFailed(error="phase seq: EIO")); sys.exit(1)',
    "complete, then dies": """
for event in recorded.whole_run(): say(event)
os.kill(os.getpid(), signal.SIGSEGV)
""",
    "talks on": "for event in recorded.whole_run(): say(event)\nsay(recorded.sample(0, 1)); wait()",
    "leaves a child": """
import subprocess
for event in recorded.whole_run(): say(event)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
""",
    "silent": "sys.exit(0)",
}


def an_engine(kind: str) -> list[str]:
    """The command line of a fake engine."""
    source = _SOURCE.format(root=str(ROOT), tests=str(ROOT / "tests"), body=BODIES[kind])
    return [sys.executable, "-c", source]
