"""HTTP/1.1 and WebSocket upgrades on one port."""
