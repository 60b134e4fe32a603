"""An endurance run of the gateway: scripts/soak.sh starts it, `scripts/soak.sh --help` tells of it."""
