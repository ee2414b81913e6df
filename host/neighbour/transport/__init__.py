"""What carries messages: UDP, TCP, TLS and the protected hop, each as a `flow.Flow`."""
