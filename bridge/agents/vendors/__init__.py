"""The built-in agents, one module each; a module's name with hyphens is the agent's name."""
