"""The command `bridge retell-agent`: a Retell agent as a file. It needs the extra ``retell``."""
