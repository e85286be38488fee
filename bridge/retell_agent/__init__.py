"""The command `bridge retell-agent`: a Retell agent from a file. It needs the extra ``retell``."""
