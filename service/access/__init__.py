"""Who may use the service: API keys, rates, and which addresses are this machine."""
