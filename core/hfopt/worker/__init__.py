"""What runs where a system puts it: steps, questions, the stopwatch."""
