"""What is in a data set, measured for people: the figures behind ``openvla data inspect`` and ``view``."""
