"""``--precision auto``: the search for an int8 file that passes the gate."""
