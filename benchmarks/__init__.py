"""What Kilobatch claims of its speed and memory, as commands anyone can run; the peer runs in the same command."""
