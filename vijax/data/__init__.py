"""From the user's hands to arrays: reading, checking, placing, storing."""
