"""Small but whole stand-ins: a robot, its world and data, and policies that learn."""
