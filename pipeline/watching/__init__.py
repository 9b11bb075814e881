"""What sees that a run is well: metrics, guards, watchdog, logs."""
