"""Route 53, decided: what this node's records and checks should be, and the next step towards it. No I/O.

``model`` the words; ``layout`` names and alias records from settings; ``checks`` the wanted health check; ``steps`` the next
step of one node; ``shared`` alias records and shard weights; ``reaping`` what dead nodes left; ``pace`` who waits how long.
"""
