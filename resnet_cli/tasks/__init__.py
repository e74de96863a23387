"""What the commands do: functions that return frozen records and print nothing."""
