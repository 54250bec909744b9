"""The event queue on SQS: one that listens, what its events are worth, and what a node does to have a queue of its own."""

from hafleet.adapters.queue.listener import FixedQueue, Hearing, QueueListener
from hafleet.adapters.queue.own import OwnQueue
from hafleet.adapters.queue.prover import NoTally, Prover

__all__ = ["FixedQueue", "Hearing", "NoTally", "OwnQueue", "Prover", "QueueListener"]
