"""The agents that can answer a call, described as data."""
