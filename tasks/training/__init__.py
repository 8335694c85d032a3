"""Training: the loop, what starts and resumes it, and what is made of the trained network."""
