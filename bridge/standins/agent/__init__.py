"""A voice agent service: its REST interface, its sockets, and the protocols that it speaks."""
