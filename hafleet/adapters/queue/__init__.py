"""The event queue on SQS: one that listens, and what a node does to have a queue of its own."""

from hafleet.adapters.queue.listener import FixedQueue, Hearing, QueueListener
from hafleet.adapters.queue.own import OwnQueue

__all__ = ["FixedQueue", "Hearing", "OwnQueue", "QueueListener"]
