"""The web application: its guard, its sessions, and the rooms that it serves."""
