"""Media on the host: what terminals are too weak for."""
