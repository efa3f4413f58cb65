"""The networks: teacher, student and the parts they share."""
