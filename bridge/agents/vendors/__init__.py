"""The built-in agents, one module each; the module's name with hyphens is the agent's name."""
