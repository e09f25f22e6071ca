"""What a report computes, by subject."""
