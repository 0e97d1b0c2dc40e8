"""From what users hand over to arrays: reading, checking, placing on devices, storing."""
