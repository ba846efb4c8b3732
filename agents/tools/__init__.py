"""What the commands share: reading, publishing, this machine as tenants, the demo."""
