"""A voice agent service: its REST interface, its sockets and its protocols."""
