"""The HAProxy of this node: its files, its two sockets, and its reload. ``HaproxyProxy`` implements ``ports.Proxy``."""

from hafleet.adapters.haproxy.mastercli import MasterCli
from hafleet.adapters.haproxy.proxy import HaproxyProxy
from hafleet.adapters.haproxy.runtimeapi import RuntimeApi

__all__ = ["HaproxyProxy", "MasterCli", "RuntimeApi"]
