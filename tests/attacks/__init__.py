"""What attackers of SIP have tried elsewhere, tried here: each test says what is wanted, and what stops it."""
