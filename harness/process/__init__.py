"""What this process has: cores, devices, memory; and packages that it imports late."""
