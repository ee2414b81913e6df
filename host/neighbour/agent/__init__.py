"""The security agent: certificates, and what is done with them on behalf of users."""
