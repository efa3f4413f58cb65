"""``--precision auto``: the search for an int8 model that passes the gate."""
